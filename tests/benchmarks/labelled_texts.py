"""Sentences in sixteen languages with one piece of personal data each, or with a number that is none. Same seed, same texts."""

import base64
import random
import re
from dataclasses import dataclass

from faker import Faker

ROWS_PER_CELL = 40  # of each language and kind


@dataclass(frozen=True)
class Language:
    """`says` are sentences around anything, `calls` say that a phone number follows; # in a phone is any digit, N 2 to 9."""

    script: str
    locale: str  # of Faker
    says: tuple[str, ...]
    calls: tuple[str, ...]
    phones: tuple[str, ...]
    numbers: tuple[str, ...]  # sentences with a number that is nobody's
    zero: str = "0"  # of the script's own digits; a third of the numbers of people is written with them
    addresses: tuple[str, ...] = ()  # in the language's own script


LANGUAGES = {
    "en-US": Language(
        "Latin", "en_US",
        ("Please use {} for this.", "It is {}, thanks", "({})", "I wrote {} into the form and nothing happened."),
        ("Call me at {}.", "My phone number is {}", "Text me: {}"),
        ("(N##) N##-####", "N##-N##-####", "N##.N##.####", "+1 N## N## ####", "1-N##-N##-####", "N## N## ####", "N##N##N###"),
        ("Order number ########## has not arrived.", "It costs $1,###,###.## in total.", "On 11/0#/2026 at 10:##:##.", "xs[::#] is slow",
         "Firmware 10.#.1#.3 is out.", "See section 3.1.#.4.", "We are at 52.######, 13.######.", "Ticket 0#########", "pages 123-1## (2019)",
         "ISBN 978-3-16-14841#-0", "The id is 1#3e4567-e89b-12d3-a456-42661417400#.", "It grew by +1## ### ###.", "std::a1::b#"),
    ),
    "en-GB": Language(
        "Latin", "en_GB",
        ("Please send it to {}.", "That would be {}!", "Here you go: {}"),
        ("Ring me on {} tomorrow", "Mobile: {}"),
        ("07### ######", "020 7### ####", "+44 7### ######", "+44 (0)20 7### ####", "01### ######", "07#########", "0044 20 7### ####"),
        ("Invoice 20#########", "We earned £12,###,###", "version 2.#.1#.7 of it", "on 2026-0#-1# 10:##", "room 12-34-5#", "a[1::#]"),
    ),
    "de": Language(
        "Latin", "de_DE",
        ("Bitte nehmen Sie {}.", "Das ist {}, danke.", "Ich habe {} eingetragen."),
        ("Rufen Sie an, Telefon {}", "Meine Handynummer: {}"),
        ("0171 #######", "030 ########", "+49 171 #######", "0171/#######", "089-######", "(030) #######", "+49 (0)30 ######", "0151########"),
        ("Bestellnummer ##########", "Das kostet 12.###.### EUR.", "am 0#.11.2026 um 10:##", "Abschnitt 3.1.#.4", "Rechnung 0#########",
         "bei 52.######, 13.######", "plus +12.5##.000 EUR", "Version 10.#.1#.3"),
    ),
    "fr": Language(
        "Latin", "fr_FR",
        ("Merci d'utiliser {}.", "C'est {} !", "J'ai noté {} hier."),
        ("Appelez le {}", "Mon téléphone : {}"),
        ("06 ## ## ## ##", "06.##.##.##.##", "+33 6 ## ## ## ##", "06########", "+33 (0)1 ## ## ## ##", "01-##-##-##-##"),
        ("Commande ##########", "12 ### ### euros", "le 0#/11/2026 à 10 h ##", "version 10.#.1#.3", "facture 0#########", "chapitre 3.1.#.4"),
    ),
    "es": Language(
        "Latin", "es_ES",
        ("Por favor, use {}.", "Es {}, gracias.", "¿Es {}?"),
        ("Llámame al {}", "Mi teléfono es {}"),
        ("6## ## ## ##", "+34 6## ### ###", "6## ### ###", "+34 91# ## ## ##", "6########"),
        ("Pedido ##########", "12.###.### €", "el 0#/11/2026 a las 10:##", "versión 10.#.1#.3", "sección 3.1.#.4"),
    ),
    "pt-BR": Language(
        "Latin", "pt_BR",
        ("Use {} por favor.", "É {}, obrigado."),
        ("Me ligue: celular {}", "Telefone {}"),
        ("(11) 9####-####", "+55 11 9####-####", "11 9####-####", "(21) 3###-####", "119########"),
        ("Pedido ##########", "R$ 12.###.###,##", "em 0#/11/2026 às 10:##", "versão 10.#.1#.3", "seção 3.1.#.4"),
    ),
    "tr": Language(
        "Latin", "tr_TR",
        ("Lütfen {} kullanın.", "Bu {} mi?"),
        ("Telefon: {}", "Mobil {}"),
        ("0532 ### ## ##", "+90 532 ### ## ##", "0532#######", "(0212) ### ## ##"),
        ("Sipariş ##########", "12.###.### ₺", "0#.11.2026 10:##", "sürüm 10.#.1#.3"),
    ),
    "ru": Language(
        "Cyrillic", "ru_RU",
        ("Используйте {}, пожалуйста.", "Это {}?", "Я ввёл {} вчера."),
        ("Позвоните: {}", "Мой телефон {}"),
        ("+7 (9##) ###-##-##", "8 (9##) ###-##-##", "8 9## ### ## ##", "89#########", "+79#########"),
        ("Заказ ##########", "12 ### ### руб.", "0#.11.2026 в 10:##", "версия 10.#.1#.3", "раздел 3.1.#.4", "счёт 0#########"),
        addresses=("иван@почта.рф", "мария.петрова@пример.рус"),
    ),
    "el": Language(
        "Greek", "el_GR",
        ("Παρακαλώ {}.", "Είναι {};"),
        ("Τηλέφωνο: {}", "τηλ. {}"),
        ("210 #######", "69########", "+30 69########", "+30 210 #######"),
        ("12.###.### €", "0#/11/2026 10:##", "στο 52.######, 13.######"),
        addresses=("γιώργος@παράδειγμα.ελ",),
    ),
    "ar": Language(
        "Arabic", "ar_AA",
        ("استخدم {} من فضلك", "هذا {}، شكرا"),
        ("اتصل على {}", "هاتف: {}"),
        ("05# ### ####", "+966 5# ### ####", "+20 10 #### ####", "05########", "00966 5########"),
        ("طلب ##########", "في 0#/11/2026 الساعة 10:##", "الإصدار 10.#.1#.3", "12,###,### دولار"),
        zero="٠", addresses=("محمد@مثال.السعودية",),
    ),
    "he": Language(
        "Hebrew", "he_IL",
        ("נא להשתמש ב-{}.", "זה {}, תודה", "שלחתי ל{} אתמול"),
        ("טלפון: {}", "נייד {}"),
        ("05#-#######", "+972-5#-###-####", "05########", "03-#######"),
        ("הזמנה ##########", "0#.11.2026 בשעה 10:##", "גרסה 10.#.1#.3"),
    ),
    "hi": Language(
        "Devanagari", "hi_IN",
        ("कृपया {} का उपयोग करें।", "यह {} है"),
        ("फ़ोन {}", "मेरा मोबाइल {} है"),
        ("+91 9#### #####", "98### #####", "98########", "09#########"),
        ("ऑर्डर ##########", "₹12,##,##,###", "0#/11/2026 को 10:##", "संस्करण 10.#.1#.3"),
        zero="०", addresses=("राम@उदाहरण.भारत",),
    ),
    "th": Language(
        "Thai", "th_TH",
        ("กรุณาใช้{}ครับ", "นี่คือ {} ค่ะ"),
        ("โทร{}นะคะ", "เบอร์ {}"),
        ("08#-###-####", "02-###-####", "+66 8# ### ####", "08########"),
        ("คำสั่งซื้อ##########", "12,###,### บาท", "0#/11/2026 เวลา 10:##", "เวอร์ชัน 10.#.1#.3"),
        zero="๐",
    ),
    "zh": Language(
        "Han", "zh_CN",
        ("请用{}谢谢", "这是{}。", "我填了{}但是没有反应"),
        ("请致电{}谢谢", "我的手机：{}"),
        ("13#########", "138 #### ####", "+86 138########", "010-########", "021 6### ####", "+8613#########"),
        ("订单号##########", "共12,###,###元", "2026年0#月1#日10:##", "版本10.#.1#.3", "第3.1.#.4节", "单号13#########"),
        zero="\uff10", addresses=("lisi@例子.中国",),
    ),
    "ja": Language(
        "Kana", "ja_JP",
        ("{}をお願いします", "これは{}です。"),
        ("電話は{}です", "携帯：{}まで"),
        ("090-####-####", "03-####-####", "+81 90-####-####", "090########", "(03) ####-####"),
        ("注文##########", "12,###,###円です", "2026/0#/1# 10:##", "バージョン10.#.1#.3", "第3.1.#.4節"),
        zero="\uff10",
    ),
    "ko": Language(
        "Hangul", "ko_KR",
        ("{}입니다", "이것은 {}이에요.", "어제 {}로 보냈어요"),
        ("전화는 {}입니다", "연락처: {}"),
        ("010-####-####", "02-###-####", "+82 10-####-####", "010########"),
        ("주문 ##########", "12,###,###원", "2026-0#-1# 10:##", "버전 10.#.1#.3"),
    ),
}  # fmt: skip
# Phone and card numbers beside another one, after a date and in lists, without a word that says what they are.
BESIDE_OTHERS = (
    "{} {}", "{}, {}", "{},{}", "{}/{}", "0#.11.2026 {}", "1#/0#/2026 10:## {}", "0#.11.26 {}", "2026-11-1#,{}", "1#,{},x", "x,{},#",
)  # fmt: skip
SPACES = " \u00a0\u202f\u2009"
DASHES = "-\u2011\u2013"
ZERO_WIDTH = "\u200b"
BASE62 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True)
class Labelled:
    """A text, what `redact` should make of it, and the kind of what it holds (None: nothing)."""

    text: str
    redacted: str
    kind: str | None
    language: str


def labelled_texts(seed: int = 1) -> list[Labelled]:
    """Return texts with an email, a phone, card, IBAN, US number, IP address or secret each, texts with two, and texts with none."""
    chance = random.Random(seed)
    rows = []
    for name, language in LANGUAGES.items():
        faker = Faker(language.locale)
        faker.seed_instance(seed)
        values = {
            "email": lambda faker=faker, language=language: chance.choice(
                [faker.email(), faker.email(), *language.addresses]
            ),
            "card": lambda faker=faker: _grouped(faker.credit_card_number(), chance),
            "iban": lambda: _grouped(_iban(chance), chance),
            "ip": lambda faker=faker: chance.choice([faker.ipv4_public(), faker.ipv4_private(), faker.ipv6()]),
            "secret": lambda: _secret(chance),
            **({"ssn": faker.ssn} if name == "en-US" else {}),
        }
        for kind, value in values.items():
            rows += [_one(value(), kind, language.says, name, chance) for _ in range(ROWS_PER_CELL)]
        for number in range(ROWS_PER_CELL):
            phone = _filled(chance.choice(language.phones), chance)
            rows.append(_one(phone, "phone", (language.calls, language.says)[number % 2], name, chance))
            text = _filled(chance.choice(language.numbers), chance)
            rows.append(Labelled(text, text, None, name))
    return [*rows, *_beside_others(seed)]


def _beside_others(seed):
    chance = random.Random(seed)
    for name, language in LANGUAGES.items():
        faker = Faker(language.locale)
        faker.seed_instance(seed)
        phones = [phone for phone in language.phones if phone[0] in "0+("]
        for number in range(ROWS_PER_CELL):
            kind, sentence = ("phone", "card")[number % 2], BESIDE_OTHERS[number // 2 % len(BESIDE_OTHERS)]
            values = [
                _filled(chance.choice(phones), chance) if kind == "phone" else faker.credit_card_number("mastercard")
                for _ in range(sentence.count("{}"))
            ]
            sentence = _filled(sentence, chance)
            yield Labelled(sentence.format(*values), sentence.replace("{}", f"<{kind}>"), kind, name)


def _one(value, kind, sentences, name, chance):
    language = LANGUAGES[name]
    if kind in {"phone", "card", "iban"}:
        value = value.replace(" ", chance.choice(SPACES)).replace("-", chance.choice(DASHES))
        if chance.random() < 0.1:
            value = ZERO_WIDTH.join((value[:6], value[6:]))
        if kind != "iban" and chance.random() < 0.33:
            value = value.translate({ord("0") + digit: chr(ord(language.zero) + digit) for digit in range(10)})
    sentence = chance.choice(sentences)
    return Labelled(sentence.format(value), sentence.format(f"<{kind}>"), kind, name)


def _filled(pattern, chance):
    return re.sub("[#N]", lambda match: chance.choice("23456789" if match[0] == "N" else "0123456789"), pattern)


def _grouped(number, chance):
    separator = chance.choice(["", " ", "-", " "])
    return separator.join(re.findall(".{1,4}", number))


def _iban(chance):
    from stdnum import iban
    from stdnum.iso7064 import mod_97_10

    country, bank = chance.choice(
        [("DE", "#" * 18), ("FR", "#" * 23), ("GB", "WEST" + "#" * 14), ("ES", "#" * 20), ("NL", "RABO" + "#" * 10),
         ("SA", "#" * 20), ("TR", "#" * 5 + "0" + "#" * 16), ("BR", "#" * 23 + "P1")]
    )  # fmt: skip
    account = _filled(bank, chance)
    number = country + mod_97_10.calc_check_digits(account + country) + account
    assert iban.is_valid(number, check_country=False), number
    return number


def _secret(chance):
    def of(size, characters=BASE62):
        return "".join(chance.choices(characters, k=size))

    def encoded(size):
        return base64.b64encode(chance.randbytes(size)).decode()

    upper = BASE62[:26] + "234567"
    return chance.choice(
        [
            lambda: "AKIA" + of(16, upper),
            lambda: "AIza" + of(35, BASE62 + "-_"),
            lambda: "ghp_" + of(36),
            lambda: "github_pat_" + of(22) + "_" + of(59),
            lambda: f"xoxb-{of(12, '0123456789')}-{of(12, '0123456789')}-{of(24)}",
            lambda: "sk-" + of(48),
            lambda: "sk-proj-" + of(60, BASE62 + "-_"),
            lambda: "sk-ant-api03-" + of(90, BASE62 + "-_"),
            lambda: "sk_live_" + of(24),
            lambda: f"eyJhbGciOiJIUzI1NiJ9.eyJ{of(60)}.{of(43, BASE62 + '-_')}",
            lambda: "-----BEGIN PRIVATE KEY-----\n" + encoded(300) + "\n-----END PRIVATE KEY-----",
            lambda: of(3) + "8Q~" + of(34),
        ]
    )()
