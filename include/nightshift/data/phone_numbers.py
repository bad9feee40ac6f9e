"""Phone numbers in a text: international ones by their calling code, national ones by shape or by a word before them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from operator import itemgetter

from nightshift.data.number_words import (
    IDENTIFIER_BEFORE,
    MORE_OF_A_LIST,
    PHONE_BEFORE,
    PRICE_BEFORE,
    is_amount,
    says_before,
)
from nightshift.data.plain_text import SPACED, UNSPACED, blanked

# Calling codes by the fewest and most digits that follow them in numbers of people (ITU-T E.164, national numbering plans).
NATIONAL_DIGITS = {
    (5, 7): "247 290 500 676 677 678 682 683 685 688 690",
    (5, 8): "686",
    (6, 7): "298 299 597 672 681 687",
    (6, 9): "376 421 508",
    (7, 7): "238 239 246 248 269 291 297 501 592 673 674 679 680 691 692 960",
    (7, 8): "230 241 267 372 507 599 670 675 961 975",
    (7, 9): "46 48 220 231 243 252 254 265 353 354 359 423 595 967",
    (8, 8): "45 47 65 216 222 223 226 227 228 232 235 236 253 257 266 268 350 356 357 370 371 373 374 382 386 389 "
    "502 503 504 505 506 509 591 598 689 800 852 853 965 968 973 974 993",
    (8, 9): "32 36 40 51 66 213 224 233 250 258 264 355 377 383 385 387 593 855 886 962 963 970 971 972",
    (8, 10): "20 53 57 60 63 64 81 82 98 378 381 850 856 880 964 976 977",
    (9, 9): "27 33 34 41 56 61 93 94 211 212 218 221 237 240 242 244 245 249 251 255 256 260 261 262 263 351 375 380 "
    "420 590 594 596 966 992 994 995 996 998",
    (9, 10): "44 84 92",
    (9, 11): "31 86",
    (7, 10): "95",
    (10, 10): "1 7 30 52 58 90 91 225 229 234",
    (10, 11): "54 55",
    (6, 10): "352 358",
    (6, 11): "39",
    (7, 11): "49",
    (7, 12): "43 62",
}
LENGTHS = {code: lengths for lengths, codes in NATIONAL_DIGITS.items() for code in codes.split()}
KEEPS_ITS_ZERO = {"39", "225", "229", "241", "242", "378"}  # whose numbers begin with 0 after the calling code, too

# Every repetition is bounded: hostile texts cannot make a search slow.
INTERNATIONAL = re.compile(
    r"(?:(?<![0-9+])(?:\(\+(?=\d{1,3}\))|\+)|(?<![A-Za-z0-9_+./=-])(?:00|011[ -]))[1-9](?:[ .\-/()]{0,3}\d){6,17}"
)
_SHAPES = (
    r"(?:(?P<north_american>(?:1[ .-])?\([2-9]\d\d\)[ .\-/]{0,3}[2-9]\d\d[ .-]?\d{4}"
    r"|(?:1[ .-])?[2-9]\d\d(?:[ -][2-9]\d\d[ .-]|\.[2-9]\d\d[.-])\d{4}(?! (?:e-?\d|\u00d7)))"
    r"|(?P<area>\((?!(?:19|20)\d\d\))0?[1-9][\d -]{0,5}\)[ -]?\d{2,5}(?:[ -]?\d{2,5}){1,3})"  # (11) 91234-5678
    r"|(?P<trunk>0[1-9]\d{0,4}(?:[ .\-/]{1,3}\d{2,8}){1,4})"  # 07700 900123, 06 12 34 56 78, 03-1234-5678
    r"|(?P<run>0[1-9]\d{8,9}|01[567]\d{9})"
    r"|(?P<short_run>0[1-9]\d{7})"
    r"|(?P<chinese>1[3-9]\d[ -]\d{4}[ -]\d{4})"
    r"|(?P<chinese_run>1[3-9]\d{9})"
    r"|(?P<russian>8[ -]?\(?[3489]\d\d\)?[ -]?\d{3}[ -]?\d{2}[ -]?\d{2})"
    r"|(?P<other>[6-9]\d{4}[ -]\d{5}|[6-9]\d{2}(?:[ .-]\d{2}){3}|\d{2} (?:9\d|[2-9])\d{3}-\d{4})"  # 98765 43210, 612 34 56 78
    r")(?![A-Za-wyz0-9_]|x(?!\d))(?!-\d)"
)
NATIONAL = re.compile(r"(?<![A-Za-z0-9_+])(?<!\d[./-])(?<![A-Za-z_][-/])" + _SHAPES)
NEXT_NATIONAL = re.compile(r"[/.-]" + _SHAPES)  # right after another one
AFTER_A_WORD = re.compile(
    r"(?<![A-Za-z0-9_+,])(?<!\d[.\-/])(?:\(\d[\d -]{0,6}\)|\d)"
    r"(?:[ .\-/()]{0,2}\d){4,14}(?![A-Za-wyz0-9_]|x(?!\d))(?!\.\d|-\w)"
)
EXTENSION = re.compile(r" ?(?:x|ext\.?|extension) ?\d{1,6}(?![A-Za-z0-9_])", re.IGNORECASE)
NORTH_AMERICAN = re.compile(r"[2-9]\d\d[2-9]\d{6}")
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"  # or month, in whichever order
DATE = re.compile(
    rf"{_DAY}([./-]){_DAY}\1(?:19|20)\d\d(?!\d)|(?:19|20)\d\d([./-]?)[01]\d\2[0-3]\d(?!\d)"
    rf"|{_DAY}([./-]){_DAY}\3\d\d(?!\d|\3\d)"  # 02.11.26, but not 06.12.34.56.78
    r"|(?:19|20)\d\d[ -]{1,3}(?:19|20)\d\d(?!\d)|\d{2}/\d{2} - (?:19|20)\d\d"
)
DECIMAL_OR_THOUSANDS = re.compile(r"\+?\d+\.\d+|\+?\d{1,3}(?:\.\d{3})+")
DIGITS = re.compile(r"\d+")
INTEGER_BEFORE = re.compile(r"(?<![\d.,:/-])(?:0|[1-9]\d{0,2}),$")
GROUPS_BEFORE = re.compile(r"(?<![\d.-])(?:0|[1-9]\d{0,2}(?P<chain>,\d{3}){0,3}),$")
DECIMALS_BEFORE = re.compile(r"\d\.\d{3}(?: \d{3})* $")  # in groups of three, as in physics
MORE_DECIMALS = re.compile(r"\d{3}(?: \d{1,4})*")
ROW_BEGINS = re.compile(r"(?<![^\n])\d{1,3},$")
FIRST_GROUP_OF_THOUSANDS = re.compile(r"\d{1,3}[ .]")
GROUPED = re.compile(r"[1-9]\d{0,2}(?: \d{3})+")
LIST_AFTER = re.compile(r",\S")
DECIMALS_AFTER = re.compile(r"\.\d|,\d{1,6}(?!,?\d)")
# Of states whose ZIP codes begin with 0.
ZIP_CODE = re.compile(r"(?:(?<=\b(?:AE|CT|MA|ME|NH|NJ|NY|PR|RI|VI|VT) )0\d{4}-\d{4}|0\d{4}-\d{4}(?=\s{1,3}USA))(?!\d)")
TRUNK_DIGITS = (10, 11, 9)  # of national numbers with their 0, the commonest first
COUNTED = "012345678901"
LONGEST_PRICE = 8  # digits
# Mobile numbers of Germany and Indonesia have up to 12.
LONG_MOBILE = {"015", "016", "017", "081", "082", "083", "085", "087", "088", "089"}


def phone_numbers(plain: str, letters: str) -> Iterator[tuple[int, int]]:
    """Yield where phone numbers begin and end, in order, for a text as `PlainText` reads it."""
    international = list(_international(plain, letters))
    others = blanked(plain, international)
    # Of two that begin at one place the first counts: a shape says better than a word before it where a number ends.
    found = [*international, *_national(others, letters), *_after_a_word(others, letters)]
    found.sort(key=itemgetter(0))
    end = 0
    for start, stop in found:
        if start >= end:
            extension = EXTENSION.match(plain, stop)
            end = extension.end() if extension else stop
            yield start, end


def _international(plain: str, letters: str) -> Iterator[tuple[int, int]]:
    if "+" not in plain and "00" not in plain and "011" not in plain:
        return
    match = INTERNATIONAL.search(plain)
    while match:
        end = match.start() + _international_characters(match[0])
        if end > match.start() and not _is_a_number_of_something(plain, letters, match.start(), end):
            yield match.start(), end
        # Digits beyond it may be those of another one.
        match = INTERNATIONAL.search(plain, end if end > match.start() else match.end())


def _international_characters(text: str) -> int:
    """How many characters of a text that begins with a calling code are a number of that code; 0: none."""
    prefix = 1 if text[0] == "+" else 2 if text.startswith(("00", "(+")) else 4
    bare = text[prefix:].replace("(0)", "(_)", 1)
    digits = "".join(DIGITS.findall(bare))
    code = next((digits[:size] for size in (1, 2, 3) if digits[:size] in LENGTHS), None)
    if code is None:
        return 0
    fewest, most = LENGTHS[code]
    national = digits[len(code) :]
    if national.startswith("0"):
        # Written as at home, +49 0171 …, which is common and wrong.
        most += code not in KEEPS_ITS_ZERO
    if national.startswith("00") or (code == "1" and not NORTH_AMERICAN.match(national)):
        return 0
    for end, count in _ends(bare):
        if fewest <= count - len(code) <= most:
            return prefix + end
    return 0


def _national(plain: str, letters: str) -> Iterator[tuple[int, int]]:
    match = NATIONAL.search(plain)
    while match:
        shape = match.lastgroup or ""
        start, end = match.span(shape)
        date = DATE.match(plain, start)
        if date:
            end, is_phone = date.end(), False
        elif shape in {"trunk", "area"}:
            end = start + _trunk_characters(match[shape])
            is_phone = end > start and _is_somebodys(plain, letters, start, end, shape)
            if end == start:  # what came before a number may have been taken for its beginning
                end = start + _first_group(match[shape])
        else:
            is_phone = _is_somebodys(plain, letters, start, end, shape)
        if is_phone:
            yield start, end
        match = (NEXT_NATIONAL.match(plain, end) if is_phone else None) or NATIONAL.search(plain, end)


def _is_somebodys(plain: str, letters: str, start: int, end: int, shape: str) -> bool:
    """Whether the digits of a national shape are a phone number."""
    text = plain[start:end]
    if _is_a_number_of_something(plain, letters, start, end) or text in COUNTED or ZIP_CODE.match(plain, start):
        return False
    # Runs of digits are many things: these are phone numbers where such numbers are at home.
    if shape == "chinese_run" and UNSPACED not in plain:
        return False
    if shape == "russian" and text.isdigit() and SPACED not in plain:
        return False
    if shape == "short_run" and SPACED not in plain and UNSPACED not in plain:
        return False
    return not says_before(IDENTIFIER_BEFORE, letters, start)


def _first_group(text: str) -> int:
    group = DIGITS.search(text)
    return group.end() if group else len(text)


def _trunk_characters(text: str) -> int:
    """How many characters of a number with a trunk prefix or an area code are the number; 0: it is none."""
    ends = {count: end for end, count in _ends(text)}
    lengths = [*TRUNK_DIGITS, *([12] if text[:3] in LONG_MOBILE else [])]
    return next((ends[count] for count in lengths if count in ends), 0)


def _after_a_word(plain: str, letters: str) -> Iterator[tuple[int, int]]:
    last_end, last_digits = 0, 0
    for match in AFTER_A_WORD.finditer(plain):
        start, end = match.span()
        digits = sum(map(len, DIGITS.findall(match[0])))
        if not 7 <= digits <= 15:
            continue
        if match[0].isdigit() and match[0].endswith("000") and match[0][0] != "0":
            continue  # a round number
        # "Call 612345678 or 698765432": the word says it of the next number of a list as well, where that is as long.
        listed = digits == last_digits and MORE_OF_A_LIST.fullmatch(letters, last_end, start)
        said = listed or says_before(PHONE_BEFORE, letters, start)
        if not said or (digits <= LONGEST_PRICE and says_before(PRICE_BEFORE, letters, start)):
            continue
        if not _is_a_number_of_something(plain, letters, start, end):
            yield start, end
            last_end, last_digits = end, digits


def _ends(text: str) -> list[tuple[int, int]]:
    """Where a number can end, between its groups of digits, and how many digits it has up to there; the longest first."""
    ends, count = [], 0
    for group in DIGITS.finditer(text):
        count += len(group[0])
        ends.append((group.end(), count))
    return ends[::-1]


def _is_a_number_of_something(plain: str, letters: str, start: int, end: int) -> bool:
    text = plain[start:end]
    return (
        DECIMAL_OR_THOUSANDS.fullmatch(text) is not None
        or DATE.match(text) is not None
        or _is_part_of_a_decimal(plain, start, end)
        or is_amount(letters, start, end)
    )


def _is_part_of_a_decimal(plain: str, start: int, end: int) -> bool:
    """Whether it is the part of 12,3456 or 1,234 before or after the comma, and no item of a list as in 12,07700900123,x."""
    text = plain[start:end]
    if MORE_DECIMALS.fullmatch(text) and DECIMALS_BEFORE.search(plain, max(0, start - 24), start):
        return True
    listed = plain[start - 1 : start] == ","
    goes_on = LIST_AFTER.match(plain, end) is not None
    if listed and text.isdigit():
        if not goes_on and INTEGER_BEFORE.search(plain, max(0, start - 6), start):
            return True
    elif listed and (text[0] == "0" or (text[0].isdigit() and "-" not in text)):
        groups = GROUPS_BEFORE.search(plain, max(0, start - 20), start)
        if groups and FIRST_GROUP_OF_THOUSANDS.match(text):
            if groups["chain"] or not goes_on:  # 1,234 567 or 1,234,567 89
                return True
        elif groups and not goes_on:
            # A row 7,07700 900123 ends here; after the decimals of 1,0523 other numbers may follow.
            ends = text[0] == "0" and plain[end : end + 1] in {"", "\n"}
            if not (ends and ROW_BEGINS.search(plain, max(0, start - 6), start)):
                return True
    if DECIMALS_AFTER.match(plain, end) is None or not (text.lstrip("+").isdigit() or GROUPED.fullmatch(text)):
        return False
    return plain[end] == "." or not (listed or text[0] == "0")
