"""Personal data goes in any script and with any separator, what only looks like it stays."""

from collections import Counter
from typing import get_args

import pytest

from nightshift.data.pii import ORDER, redact
from nightshift.settings.intake import PiiKind

KINDS = list(get_args(PiiKind))

PERSONAL = {
    "write to jo.smith+bank@mail.example.co.uk, thanks": "write to <email>, thanks",
    "o'neil@example.org": "<email>",
    "'jo@x.org', -ann@y.org; ?email=bo@z.org&x": "'<email>', -<email>; ?email=<email>&x",
    "card 4111 1111 1111 1111 was charged": "card <card> was charged",
    "card 5500-0055-5555-5559.": "card <card>.",
    "9792 0000 0000 0003, 8600 1234 5678 9012, 9860123456789015": "<card>, <card>, <card>",  # Turkey, Uzbekistan
    "4111 1111 1111 1111 12/26, code 123": "<card> 12/26, code 123",
    "2 payments of 50 4111111111111111": "2 payments of 50 <card>",
    "3782 822463 10005": "<card>",
    "IBAN DE89 3704 0044 0532 0130 00 please": "IBAN <iban> please",
    "from gb82west12345698765432": "from <iban>",
    "BE68 5390 0754 7034 and so on": "<iban> and so on",
    "at20 transfers to DE89 3704 0044 0532 0130 00": "at20 transfers to <iban>",
    "call +44 20 7946 0958 now": "call <phone> now",
    "+44 (0)20 7946 0958 24/7": "<phone> 24/7",
    "415 555-2671, 415.555.2671, 1.415.555.2671, 1-415-555-2671": "<phone>, <phone>, <phone>, <phone>",
    "(415) - 555-2671, (415).555.2671, (415)/555-2671": "<phone>, <phone>, <phone>",
    "call (212) 555-0123 or 212-555-0124": "call <phone> or <phone>",
    "+1 (212) 555-0123 ext. 45": "<phone>",
    "07700 900123": "<phone>",
    "0812-3456-7890": "<phone>",
    "Tel.:0171/1234567, +49 (0)30 123456": "Tel.:<phone>, <phone>",
    "06.12.34.56.78 ou 06 12 34 56 78": "<phone> ou <phone>",
    "(11) 91234-5678": "<phone>",
    "+7(912)345-67-89, 8 912 345-67-89": "<phone>, <phone>",
    "Mobile No. 9876543210, Ph: 98 7654 3210": "Mobile No. <phone>, Ph: <phone>",
    "phoneNumber=4155552671&homePhone: 4155552672": "phoneNumber=<phone>&homePhone: <phone>",
    "phone_number 4155552671, phone_1: 4155552672": "phone_number <phone>, phone_1: <phone>",
    "mobile_phone=4155552673, phone2: 4155552674": "mobile_phone=<phone>, phone2: <phone>",
    "https://wa.me/491712345678": "https://wa.me/<phone>",
    "mitt telefonnummer är 701234567": "mitt telefonnummer är <phone>",
    "My cell: 4155552671.": "My cell: <phone>.",
    "my number is 536-90-4399": "my number is <ssn>",
    "phone_primary: 612345678, phone_office=612345678": "phone_primary: <phone>, phone_office=<phone>",
    "telefon_privat: 612345678, tel_bureau 612345678": "telefon_privat: <phone>, tel_bureau <phone>",
    "cell_alt 612345678; phone_at_home: 447700900123": "cell_alt <phone>; phone_at_home: <phone>",
    "415.555-2671, 1.212-555-1234, 1.212 555 1234": "<phone>, <phone>, <phone>",
    "D - DE 01067-1234": "D - DE <phone>",
    "git@foo.com :-)": "<email> :-)",
    "84.17.45.3-postgres, 10.1.2.3-devserver": "<ip>-postgres, <ip>-devserver",
    "SSN 536904399": "SSN <ssn>",
    "CPF 390.533.447-05 ou 390.533.447-05": "CPF <ssn> ou <ssn>",
    "meu cpf é 39053344705, NHS number 943 476 5870": "meu cpf é <ssn>, NHS number <ssn>",
    "Aadhaar: 2341 2341 2346; BSN 111222333; SIN 123 456 782": "Aadhaar: <ssn>; BSN <ssn>; SIN <ssn>",
    "PESEL 44051401359, T.C. Kimlik No: 10000000146": "PESEL <ssn>, T.C. Kimlik No: <ssn>",
    "sécurité sociale 2 95 10 99 126 111 93": "sécurité sociale <ssn>",
    "login from 192.168.1.254 and 2001:db8::1": "login from <ip> and <ip>",
    "IP:10.0.0.5:8080, [2001:db8::1]:443, ::ffff:10.0.0.6": "IP:<ip>:8080, [<ip>]:443, <ip>",
    "firmware 10.2.14.3 at 192.168.1.1": "firmware 10.2.14.3 at <ip>",
}
NEIGHBOURS = {
    "0170 1234567 0171 7654321": "<phone> <phone>",
    "07700 900123 07700 900124": "<phone> <phone>",
    "0800 123 4567 0170 1234567": "<phone> <phone>",
    "call 0170 1234567 0171 7654321": "call <phone> <phone>",
    "07700 900123/07700 900124 or 0170/1234567/0171/7654321": "<phone>/<phone> or <phone>/<phone>",
    "+44 7700 900123/07700 900124, +33 6 12 34 56 78,0685165291": "<phone>/<phone>, <phone>,<phone>",
    "电话13800138000/13800138001": "电话<phone>/<phone>",
    "02.11.2026 07700 900123": "02.11.2026 <phone>",
    "05/11/2026 07700 900123": "05/11/2026 <phone>",
    "03-11-2026 0170 1234567": "03-11-2026 <phone>",
    "02.11.2026 14:05 0170 1234567": "02.11.2026 14:05 <phone>",
    "Rechnung vom 01.02.2026 030 1234567": "Rechnung vom 01.02.2026 <phone>",
    "am 02.11.26 0170 1234567, bis 03.11.26": "am 02.11.26 <phone>, bis 03.11.26",
    "2026-11-02 08:00:00.123 +4917112345678": "2026-11-02 08:00:00.123 <phone>",
    "10:15:30.250 0171 2345678": "10:15:30.250 <phone>",
    "Paid 1.250 +49 171 2345678 or $1.234 (415) 555-2671": "Paid 1.250 <phone> or $1.234 <phone>",
    "lat 51.507 07700 900123": "lat 51.507 <phone>",
    "07700900123,07700900124": "<phone>,<phone>",
    "12,07700900123,13": "12,<phone>,13",
    "row 7,07700900123,x": "row 7,<phone>,x",
    "Jane,07700900123,1": "Jane,<phone>,1",
    "Jane,+447700900123,1 or 7,+447700900123": "Jane,<phone>,1 or 7,<phone>",
    "2026-11-01,07700900123": "2026-11-01,<phone>",
    "2026-11-12,07700900123": "2026-11-12,<phone>",
    "7,07700 900123": "7,<phone>",
    "7,06 12 34 56 78,x": "7,<phone>,x",
    "7,(212) 555-0123,212-555-0124": "7,<phone>,<phone>",
    "电话13800138000,13800138001": "电话<phone>,<phone>",
    "tel 5551234567,5551234568,x": "tel <phone>,5551234568,x",
    "4111111111111111,4012888888881881": "<card>,<card>",
    "4111 1111 1111 1111.4012888888881881.": "<card>.<card>.",
    "call 612345678 or 698765432": "call <phone> or <phone>",
    "Tel. 612345678 / 698765432; 655443322": "Tel. <phone> / <phone>; <phone>",
    "电话 612345678 或 698765432": "电话 <phone> 或 <phone>",
    "call 612345678, order 698765432 and 98765": "call <phone>, order 698765432 and 98765",
    "07700 900123-07700 900124 or (202) 555-0143.(202) 555-0144": "<phone>-<phone> or <phone>.<phone>",
    "+966 55 659 0872 00966 559051316": "<phone> <phone>",
    "x,00966 510280064,6 but not 1,00966510280": "x,<phone>,6 but not 1,00966510280",
    "12,4111111111111111,07/26": "12,<card>,07/26",
    "$12.50,4111111111111111": "$12.50,<card>",
    "call 011 44 20 7946 0958": "call <phone>",
    "011-44-20-7946-0958": "<phone>",
    "4111\t1111\t1111\t1111 and 4111 1111\n1111 1111": "<card> and <card>",
    "?to=john%40example.com&cc=p%40ss.word@example.com": "?to=<email>&cc=<email>",
}
NO_SPACES = {
    "我的电话是13800138000": "我的电话是<phone>",
    "我的电话是+8613800138000请打": "我的电话是<phone>请打",
    "请联系13800138000谢谢": "请联系<phone>谢谢",
    "電話は03-1234-5678です": "電話は<phone>です",
    "IBANはDE89370400440532013000です": "IBANは<iban>です",
    "服务器IP是192.168.10.25请检查": "服务器IP是<ip>请检查",
    "请把发票发到lisi@example.com谢谢": "请把发票发到<email>谢谢",
    "电邮a@b.cn谢谢": "电邮<email>谢谢",
    "请写lisi@例子.中国谢谢": "请写<email>谢谢",
    "이메일은test@example.com입니다": "이메일은<email>입니다",
    "โทร081-234-5678นะ": "โทร<phone>นะ",
    "身份证号110101199003074610。": "身份证号<ssn>。",
    "주민등록번호는 900101-1234568입니다": "주민등록번호는 <ssn>입니다",
    "密钥AKIAIOSFODNN7EXAMPLE谢谢": "密钥<secret>谢谢",
}
SCRIPTS = {
    "пишите на иван@почта.рф, пожалуйста": "пишите на <email>, пожалуйста",
    "राम@उदाहरण.भारत को": "<email> को",
    "müller@büro.de?": "<email>?",
    "שלחתי לjo@example.org אתמול": "שלחתי ל<email> אתמול",
    "jo@xn--bcher-kva.example,": "<email>,",
    "\uff4c\uff49\uff20\uff45\uff58\uff0e\uff4a\uff50へ": "<email>へ",
    "اتصل على \u0660\u0665\u0660 \u0661\u0662\u0663 \u0664\u0665\u0666\u0667": "اتصل على <phone>",
    "आधार संख्या २३४१ २३४१ २३४६": "आधार संख्या <ssn>",
    "फ़ोन \u096f\u096e\u096d\u096c\u096b\u096a\u0969\u0968\u0967\u0966": "फ़ोन <phone>",
    "\uff10\uff13\u2212\uff11\uff12\uff13\uff14\u2212\uff15\uff16\uff17\uff18まで": "<phone>まで",
    "03\u30fc1234\u30fc5678": "<phone>",
    "ስልክ ቁጥሬ 911234567 ነው": "ስልክ ቁጥሬ <phone> ነው",
    "فون نمبر 3001234567": "فون نمبر <phone>",
    "தொலைபேசி 9876543210": "தொலைபேசி <phone>",
    "ఫోన్ నంబర్ 9876543210": "ఫోన్ నంబర్ <phone>",
    "ဖုန်း 9421234567": "ဖုန်း <phone>",
    "ტელეფონი 599123456": "ტელეფონი <phone>",
    "\uff14\uff11\uff11\uff11\u3000" + "\uff11\uff11\uff11\uff11\u3000" * 2 + "\uff11" * 4 + "です": "<card>です",
}  # fmt: skip
SECRETS = {
    "key AKIAIOSFODNN7EXAMPLE!": "key <secret>!",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY": "aws_secret_access_key = <secret>",
    "use AIza" + "Sy0123456789abcdefghijklmnopqrstu_-": "use <secret>",
    "AccountName=x;AccountKey=" + "a1B2" * 21 + "ab==;": "AccountName=x;AccountKey=<secret>;",
    "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6y.": "Bearer <secret>.",
    "OPENAI_API_KEY=sk-proj-" + "aB3" * 12: "OPENAI_API_KEY=<secret>",
    "sk-or-v1-" + "ab12" * 16 + " gsk_" + "aB3d" * 13: "<secret> <secret>",
    "curl -H 'Authorization: Basic dXNlcjpwYXNzd29yZA=='": "curl -H 'Authorization: Basic <secret>'",
    "Authorization: Basic dXNlcjpwYXNz": "Authorization: Basic <secret>",
    "authorization: bearer abc123def456ghi789": "authorization: bearer <secret>",
    '"Authorization": "Bearer 9f2c8e.aB-41d7_c0de",': '"Authorization": "Bearer <secret>",',
    "token hf_" + "aBcD" * 8 + "ab": "token <secret>",  # of letters alone
    "ghp_" + "aB3" * 12 + " and xoxb-123456789012-abcdefABCDEF": "<secret> and <secret>",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----\nbye": "<secret>\nbye",
    "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkq" * 4 + " cut": "<secret> cut",
    "https://bob:hunter2@host/x": "https://bob:<secret>@host/x",
    "postgres://u:p@ss@db.example.org/x": "postgres://u:<secret>@db.example.org/x",
    "https://x.org:8080?to=a@b.org": "https://x.org:8080?to=<email>",
}
HARMLESS = [
    "card 4111 1111 1111 1112 fails its checksum",
    "order 12345678901234567890",
    "1.319 590 9068 e-15, 938.272 0813 MeV, -2.002 319 304 3622, alpha = .5883738271406221",
    "1・2・3・4年生, 2·3·5·7 = 210, 2026・11・02, 第1・2・3・4回",
    "Authorization: Bearer $TOKEN, Authorization: Bearer YOUR_ACCESS_TOKEN_HERE",
    'Authorization: Bearer YOUR_ACCESS_TOKEN_HERE" https://api.example.com/v1',
    "قیمت گوشی موبایل ۱۲۵۰۰۵۰۰ تومان, موبائل قیمت 12500500 روپے, قیمت موبایل ۱۲۵۰۰۵۰۰",
    "ஸ்மார்ட்போன் விலை 1250050, Simu inauzwa 1250050, harga telepon 1250050",
    "authorization: basic authentication, Authorization: Basic Authentication with 2 factors",
    "1.660 539 0666 × 10, phone_serial: 12345678, phone_price=12345678, call_count: 1234567",
    "The pH was measured: 7345612, PH 1234567 Permit",
    "Boston, MA 02110-1301 or 02110-1301  USA",
    "x>=1.2.3.4, y~=1.2.3.4, ^1.2.3.4, 1.2.3.4-beta, 1.2.3.4.dev0, 1.2.3.4-SNAPSHOT, bump to 1.2.3.4",
    '__version__ = "3.5.0.1"',
    "110101199003074611, 390.533.447-06, 971332-9019902 and Aadhaar 2341 2341 2347 fail their checksums",
    "الذين يصرفون 1512345 ريال, போன்ற 12345678, ໂທດ 12345678, call_id 415555267, call_duration: 1234567",
    "2341 2341 2346 and 39053344705 say nothing by themselves, nor does sin(123456782)",
    "GB82 WEST 1234 5698 7654 33 fails its checksum",
    "1,234.56 euros on 02.11.2026, not 1000000000",
    "at 12:30:45 on 2026-11-02T10:00:00Z",
    "from 100 200 3000 to 50",
    "version 1.2.3.4.5 of std::vector",
    "me@home and @you, @bbc.co.uk, react@18.2.0, git@github.com:owner/name.git",
    "git+ssh://git@github.com/owner/name.git, icon@2x.png, logo@3x.jpg",
    "top up 500.00, then 20 30 50",
    "999.1.1.1 is no address, nor are 127.0.0.1, 0.0.0.0 and ::1",
    "Our depot is at lat +52.520008, lon +13.404954, how far is it?",
    "(52.5200080, 13.4049540) or geo:37.786971,-122.399677",
    "Profit rose by +12.500.000 EUR, what does that mean for me?",
    "Revenue grew by +100 000 000 last year, is that a record?",
    "up +351 912 345 678 EUR to 1.234.567,89 EUR or R$ 1.234.567,89",
    "The router has firmware 10.2.14.3, is there a newer one?",
    "Section 3.1.2.4 of the guide says restart, shall I?",
    "upgrade from 10.2.14.3 to 10.2.15.0, or see § 3.1.2.4",
    "pkg==1.2.3.4, libfoo-1.2.3.4.tar.gz, Chrome/120.0.6099.129.1, Chrome/120.0.0.0 Safari/537.36",
    "10.0.0.0/8, 172.16.0.0/12, fe80::/10, fc00::/7, EUI-64 12:34:56:78:90:ab:cd:ef",
    "第3.1.2.4節とバージョン10.2.14.3、버전 10.2.14.3, раздел 3.1.2.4",
    "xs[::2], xs[1::2], a[1000::2000], a::b::c, dead::beef, 1:1:1:1:1:1:1:1",
    "order #0123456789, ticket 2125550123, Bestellung 0171 1234567",
    "订单号13800138000，注文番号09012345678",
    "02.11.2026 08:15, 2026/11/02 10:15:20, 20261102, 1700000000, 1700000000000",
    "call before 20261102, flights to tel aviv 2019 2020, from 2005/01/01 - 2006/01/01",
    "digits are 0123456789, see 10.1209/0295-5075/97/28005 or E (72) 056127; Pullman, WA 99164-3113",
    "ISBN 978-3-16-148410-0, EAN 4006381333931, 123e4567-e89b-12d3-a456-426614174000",
    "12,0170123456 and 0,0123456789 are decimals, so are 0.4111111111111111 and 13800138000,30",
    "电话费 13800138000,30，从01.02.2026到05.03.2026",
    "24,0671/9504-1234, 69,086119/2026, 02/21/2026 67.805.698, 05/21/26 276 017",
    "915,210,041 33.08 29,0 and 82,5324 9909 80589 303, 51.93417/73,09/650 247 073",
    "1,05 12345678 and 1,234,567 890 1234; the telephone cost 1 234 567,50",
    "02.11.2026 08:15 to 03.11.2026 09:00, 01/02/2026 - 05/03/2026, 01.02.26-05.03.26, 02.11.26 08:15:00",
    "4821\t5120\t3301\t4407\t1234 and 4000\n1234\n5678\n9017\n2000",
    ".654 5.8 .479 1.1 .995 3.5 .644 5.9 .474 1.2",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
    "sk-learn-based-pipeline-for-classification, eyJust, postgres://user:${PASSWORD}@host/db",
    "-----BEGIN CERTIFICATE-----\nMIID\n-----END CERTIFICATE-----",
]
SEPARATED = {
    "card": "4111 1111 1111 1111",
    "iban": "DE89 3704 0044 0532 0130 00",
    "phone": "+44 20 7946 0958",
}


@pytest.mark.parametrize(("text", "redacted"), [*PERSONAL.items(), *NEIGHBOURS.items(), *SECRETS.items()])
def test_personal_data_is_replaced_by_its_kind(text, redacted):
    found = Counter()
    assert redact(text, KINDS, found) == redacted
    assert found.total() == redacted.count("<")


@pytest.mark.parametrize(("text", "redacted"), [*NO_SPACES.items(), *SCRIPTS.items()])
def test_exactly_the_number_or_address_goes_in_scripts_without_spaces_and_with_digits_of_their_own(text, redacted):
    assert redact(text, KINDS, Counter()) == redacted


@pytest.mark.parametrize(
    "separator", ["\u00a0", "\u202f", "\u2009", "\u2011", "\u2013", "\u200b", *"·•・⁄─➖", "\u2800", "\u3164"]
)
@pytest.mark.parametrize(("kind", "number"), SEPARATED.items())
def test_separators_that_look_like_spaces_and_dashes_or_like_nothing_are_read_as_such(kind, number, separator):
    assert redact(f"take {number.replace(' ', separator)} now", KINDS, Counter()) == f"take <{kind}> now"


def test_marks_of_direction_around_a_number_stay_and_those_within_go():
    assert redact("\u200e+44 20 \u200e7946 0958\u200f!", KINDS, Counter()) == "\u200e<phone>\u200f!"


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_personal_is_left_alone(text):
    assert redact(text, KINDS, Counter()) == text


def test_only_the_kinds_asked_for_are_replaced():
    assert redact("a@b.org from 10.0.0.1", ["ip"], Counter()) == "a@b.org from <ip>"
    assert redact("a@b.org from 10.0.0.1", [], Counter()) == "a@b.org from 10.0.0.1"


def test_every_kind_of_the_configuration_is_known():
    assert set(ORDER) == set(KINDS)


@pytest.mark.parametrize(
    "piece",
    ["1", "1 ", "a@", "a.@", ":1", "1.1.1.1.", "+1 ", "(0", "4111 ", "DE89 ", "://a:", "\u0661 ", "1\u200b", "字1", "字@字.",
     "-----BEGIN PRIVATE KEY-----", "eyJaaaaaaaaaa.", "-eyJ", "sk-a", "phone 1 ", "order 1234567890 ", "call 212 5",
     "NHS 943 ", "DE89 3704 ", "0171 ", "02.11.26 ", "07700 900123/", "7,07700900123,", "a%40a."],
)  # fmt: skip
@pytest.mark.timeout(20)
def test_a_hostile_text_is_searched_in_no_time(piece):
    redact(piece * (20_000 // len(piece)), KINDS, Counter())
