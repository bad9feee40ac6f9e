"""Personal data and secrets in texts: found by pattern and checksum in any script, replaced by a placeholder."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from stdnum import iban, luhn, numdb

from nightshift.data.internet_domains import UNSPACED_ENDINGS
from nightshift.data.number_words import IDENTIFIER_BEFORE, MORE_OF_A_LIST, VERSION_BEFORE, says_before
from nightshift.data.person_numbers import person_numbers
from nightshift.data.phone_numbers import phone_numbers
from nightshift.data.plain_text import PlainText, blanked
from nightshift.data.secret_patterns import secrets
from nightshift.settings.intake import PiiKind

# Patterns are searched in `PlainText.plain`: é, ж and 字 stand for letters outside of ASCII, and no digit or dash but
# ASCII's occurs. Every repetition is bounded: hostile texts cannot make a search slow.
MAY_HOLD = re.compile(r"[\d@\uff20]")
MAY_HOLD_ASCII = b"0123456789@"
LONG_NUMBER = re.compile(r"[0-9](?<![A-Za-z0-9_]\d)(?:[ .\-/()]{0,3}[0-9]){6}")
LONG_NUMBERS: set[PiiKind] = {"card", "ssn", "phone"}  # the kinds that hold one
AT = re.compile("@|%40")  # in URLs it is written %40
LOCAL_CHARACTERS = 128
# Read from the @ to the left. A Latin name ends where another script begins (prefixes of Hebrew are glued to it), but not
# at a dot or an underscore, which join names of two scripts. Where words are not apart, a name in their script cannot be
# told from the words before it, which it takes along.
LOCAL_BACKWARDS = re.compile(
    r"[0-9_.+%'-]*(?:[A-Za-zé][A-Za-z0-9é_.+%'-]*(?:(?<=[._+])[A-Za-z0-9éж_.+%'-]+)?|ж[A-Za-z0-9éж_.+%'-]*)"
    r"|[0-9_.+%'-]+|字[字0-9_.]*"
)
DOMAIN = re.compile(
    r"(?![1-4]x\.(?:png|jpe?g|webp|gif|svg)\b)"  # icon@2x.png
    r"(?:(?:[A-Za-z0-9éж_-]{1,63}|[字0-9-]{1,63})\.){1,8}(?:xn--[A-Za-z0-9-]{2,59}|[A-Za-zéж]{2,24})(?![A-Za-z0-9éж_])"
)
UNSPACED_DOMAIN = re.compile(r"(?:(?:[A-Za-z0-9éж_-]{1,63}|[字0-9-]{1,63})\.){1,8}(?=字)")
# What comes before is looked at after the first digit: a search that begins with a digit is three times as fast.
IBAN_DIGITS = re.compile(
    r"[0-9](?<=(?<![A-Za-z0-9é])[A-Za-z]{2}\d)(?=(\d(?:[ -]{0,2}[A-Za-z0-9]){11,30})(?![A-Za-z0-9é]))"
)
IBAN_CHARACTERS = {"n": "[0-9]", "a": "[A-Za-z]", "c": "[A-Za-z0-9]"}  # by their names in the register
CARD_BEGINS = re.compile(r"[1-689](?<![A-Za-z0-9_+]\d)(?<![\d\s=(\[,:*/+-]\.\d)(?=(?:[ \t\n.-]{0,3}\d){11})")
LETTER = re.compile("[A-Za-z_]")
CARD_CHARACTERS = 64
SHORTEST_CARD, SHORT_CARD = 12, 13  # digits
CARD_GROUP = re.compile(r"[ \t\n.-]{0,3}(\d+)")
# Cards are written in groups of four digits or more, of which the last may be shorter, or digit by digit.
CARD_WRITTEN = re.compile(r"\d{4,}(?:[ -]{1,3}\d{4,})*(?:[ -]{1,3}\d{1,3})?|\d(?:[ -]\d)*|\d{4}(?:\.\d{4}){3}")
# In cells or wrapped lines: four groups and no more, of which tables have many.
CARD_IN_CELLS = re.compile(r"(?<!\d[\t\n])\d{4}(?:[ \t\n-]\d{4}){3}(?![\t\n]\d)")
AFTER_COMMA = re.compile(r"\d,$")
CARD_AFTER_COMMA = re.compile(r"\d{15,}|\d{4}(?:[ -]\d{4}){3}")  # decimals are rarely longer
ISSUED = re.compile(
    r"(?:[3-6]\d|8[12])\d{14}|2(?:2(?:0[0-4]|2[1-9]|[3-9]\d)|[3-6]\d\d|7[01]\d|720)\d{12}"  # most have 16 digits
    r"|(?:8600|9792|9860)\d{12}"  # Uzcard, Troy, Humo
    r"|4\d{12}|4\d{18}|(?:3[47]\d\d|2131|1800)\d{11}|3(?:0[0-5]|[689]\d)\d{11}|62\d{15,17}"  # Visa, Amex, JCB, Diners, UnionPay
    r"|(?:50\d\d|5[6-9]\d\d|6304|6390|67\d\d)\d{8,15}"  # Maestro
)
IPV4 = re.compile(
    r"[0-9](?<![A-Za-z0-9_.]\d)(?<![A-Za-z]-\d)(?<![=~<>!]=\d)(?<![~^]\d)\d{0,2}(?:\.\d{1,3}){3}(?![A-Za-z0-9_])(?!\.[A-Za-z]?\d)"
    r"(?![.-](?:alpha|beta|rc|dev|post|SNAPSHOT|final)(?![A-Za-z]))"
)
IPV6 = re.compile(
    r"(?<![A-Za-z0-9_.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4})(?![A-Za-z0-9_:])"
)
GLOBAL, UNIQUE_LOCAL, LINK_LOCAL, MAPPED = (
    ipaddress.ip_network(one) for one in ("2000::/3", "fc00::/7", "fe80::/10", "::ffff:0:0/96")
)


def redact(text: str, kinds: Sequence[PiiKind], found: dict[str, int]) -> str:
    """Return `text` with what is of the given kinds replaced (`<email>`), and count it by kind in `found`."""
    # But for some keys, everything holds a digit or an @.
    if not (
        _may_hold(text)
        or "AKIA" in text
        or "ASIA" in text
        or "hf_" in text
        or "PRIVATE KEY" in text
        or "uthorization" in text
    ):
        return text
    read = PlainText.of(text)
    plain = read.plain
    without = set() if LONG_NUMBER.search(plain) else LONG_NUMBERS
    replacements: list[tuple[int, int, str]] = []
    for kind, finder in FINDERS.items():
        if kind in kinds and kind not in without and (spans := sorted(finder(plain, read.letters))):
            found[kind] = found.get(kind, 0) + len(spans)
            replacements += [(start, end, f"<{kind}>") for start, end in spans]
            plain = blanked(plain, spans)
    return read.replaced(sorted(replacements)) if replacements else text


def _may_hold(text: str) -> bool:
    if text.isascii():  # three times as fast as a search
        return len(text.encode().translate(None, MAY_HOLD_ASCII)) < len(text)
    return MAY_HOLD.search(text) is not None


def _emails(plain: str, letters: str) -> Iterator[tuple[int, int]]:
    after = 0
    for sign in AT.finditer(plain):
        at = sign.start()
        end = _domain_end(plain, letters, sign.end())
        if len(sign[0]) > 1 and plain[end : end + 1] == "@":
            continue  # p%40ss.word@example.com
        local = LOCAL_BACKWARDS.match(plain[max(after, at - LOCAL_CHARACTERS) : at][::-1]) if end else None
        if local:
            name = local[0][::-1].lstrip(".'%-")
            # git@github.com:owner/name and ssh://git@github.com/owner/name are where code lies.
            if name and not (name == "git" and ":" in (plain[end : end + 1], plain[max(0, at - 6) : max(0, at - 5)])):
                yield at - len(name), end
                after = end


def _domain_end(plain: str, letters: str, start: int) -> int:
    """Where the domain that begins at `start` ends; 0: there is none."""
    if domain := DOMAIN.match(plain, start):
        return domain.end()
    if domain := UNSPACED_DOMAIN.match(plain, start):
        # The words of a sentence may follow without a space: only a known ending tells where the domain ends.
        ending = next((one for one in UNSPACED_ENDINGS if letters.startswith(one, domain.end())), None)
        if ending:
            return domain.end() + len(ending)
    return 0


def _ibans(plain: str, _letters: str) -> Iterator[tuple[int, int]]:
    after = 0
    for match in IBAN_DIGITS.finditer(plain):
        start = match.start() - 2  # the country's letters
        form = _iban_form(plain[start : start + 2].upper()) if start >= after else None
        number = form.match(plain, start) if form else None
        if number and iban.is_valid(number[0], check_country=False):
            after = number.end()
            yield start, after


@cache
def _iban_form(country: str) -> re.Pattern[str] | None:
    """The form of a country's numbers: as many digits and letters as they have, in groups; None: it has none."""
    structure = numdb.get("iban").info(country)[0][1].get("bban")
    if structure is None:
        return None
    parts = re.sub(
        r"(\d+)!([nac])", lambda part: rf"(?:[ -]{{0,2}}{IBAN_CHARACTERS[part[2]]}){{{part[1]}}}", "2!n" + structure
    )
    return re.compile(rf"[A-Za-z]{{2}}{parts}(?![A-Za-z0-9é])")


def _cards(plain: str, letters: str) -> Iterator[tuple[int, int]]:
    after = 0
    for match in CARD_BEGINS.finditer(plain):
        start = match.start()
        if start < after or not (end := _card_end(plain, start)):
            continue
        # One in ten of all numbers passes the checksum. Old cards are as short as bar codes and order numbers.
        if end - start <= SHORT_CARD and says_before(IDENTIFIER_BEFORE, letters, start):
            continue
        if AFTER_COMMA.search(plain, max(0, start - 2), start) and not CARD_AFTER_COMMA.fullmatch(plain, start, end):
            continue
        while end > start:
            yield start, end
            after = end
            # Behind a point another one may follow, which by itself could be decimals.
            start = end + 1
            end = _card_end(plain, start) if plain[end:start] == "." else 0


def _card_end(plain: str, start: int) -> int:
    """Where the longest card number that begins at `start` ends, between two groups of digits; 0: there is none."""
    digits, place, end = "", start, 0
    while len(digits) < 20 and place < start + CARD_CHARACTERS and (group := CARD_GROUP.match(plain, place)):
        digits, place = digits + group[1], group.end()
        if LETTER.match(plain, place):
            break
        # A run of one digit is a filler.
        if (
            len(digits) >= SHORTEST_CARD
            and ISSUED.fullmatch(digits)
            and _is_written_as_a_card(plain, start, place)
            and len(set(digits)) > 1
            and luhn.is_valid(digits)
        ):
            end = place
    return end


def _is_written_as_a_card(plain: str, start: int, end: int) -> bool:
    if CARD_WRITTEN.fullmatch(plain, start, end):
        return True
    cells = CARD_IN_CELLS.match(plain, start)
    return cells is not None and cells.end() == end


def _ips(plain: str, letters: str) -> Iterator[tuple[int, int]]:
    if "::" in plain or plain.count(":") >= 7:
        found = [match.span() for match in IPV6.finditer(plain) if _is_of_a_machine(match[0])]
        yield from found
        plain = blanked(plain, found)
    if plain.count(".") < 3:
        return
    version_end = None
    for match in IPV4.finditer(plain):
        # "Upgrade from 10.2.14.3 to 10.2.15.0": what is said of the first of a list is said of the next.
        if says_before(VERSION_BEFORE, letters, match.start()) or (
            version_end is not None and MORE_OF_A_LIST.fullmatch(letters, version_end, match.start())
        ):
            version_end = match.end()
        elif _is_of_a_machine(match[0]):
            yield match.span()


def _is_of_a_machine(text: str) -> bool:
    """Whether it is an address that one machine has: not `::2` of a slice, loopback, broadcast or 0.0.0.0."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        # Networks and the versions of browsers end with .0.0.
        return 0 < int(address) >> 24 < 224 and not address.is_loopback and bool(int(address) & 0xFFFF)
    if address in UNIQUE_LOCAL or address in LINK_LOCAL or address in MAPPED:
        return not text.endswith("::")
    # 2000::2 is more often a slice than an address: those have more groups.
    groups = sum(map(bool, text.split(":")))
    return (groups == 8 and len(text) >= 24) or (address in GLOBAL and groups >= 3)


# In this order: what a checksum confirms is taken before what only looks like a number.
FINDERS: dict[PiiKind, Callable[[str, str], Iterator[tuple[int, int]]]] = {
    "secret": secrets,
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "ssn": person_numbers,
    "ip": _ips,
    "phone": phone_numbers,
}
ORDER: tuple[PiiKind, ...] = tuple(FINDERS)
