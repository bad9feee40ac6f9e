"""Personal data in texts: found by pattern, checked by checksum where there is one, replaced by a placeholder."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from stdnum import iban, luhn
from stdnum.us import ssn

from nightshift.settings.intake import PiiKind

# Every repetition is bounded: hostile texts cannot make a search slow.
PATTERNS: dict[PiiKind, re.Pattern[str]] = {
    "email": re.compile(r"(?<![\w.+-])[\w.+%-][\w.+%'-]{0,63}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?!\w)"),
    "iban": re.compile(r"(?<![^\W_])[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]{1,4}){3,8}(?![^\W_])"),
    "card": re.compile(r"(?<![\d.,])\d(?:[ -]?\d){12,18}(?![\d])"),
    "ssn": re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"),
    "ip": re.compile(
        r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)|(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:]))"
    ),
    "phone": re.compile(
        r"(?<![\w.+-])(?:"
        r"(?:\+|00)[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,5}(?:[ .-]?\d{2,5}){1,4}"  # +44 20 7946 0958
        r"|(?:1[ .-])?\(\d{3}\) ?\d{3}[ .-]\d{4}"  # (212) 555-0123
        r"|(?:1[ .-])?\d{3}[.-]\d{3}[.-]\d{4}"  # 212-555-0123
        r"|0\d{2,4}[ /-]\d{3,4}[ -]?\d{3,4}|0\d{9,10}"  # 07700 900123
        r")(?![\w-])"
    ),
}
# Checked in this order: what a checksum confirms is taken before what only looks like a number.
ORDER: tuple[PiiKind, ...] = ("email", "iban", "card", "ssn", "ip", "phone")
DIGIT = re.compile(r"\d")


def redact(text: str, kinds: Sequence[PiiKind], found: Counter[str]) -> str:
    """Return `text` with personal data of the given kinds replaced (`<email>`), and count it by kind in `found`."""
    numbers = DIGIT.search(text) is not None
    if not numbers and "@" not in text:
        return text
    for kind in ORDER:
        if kind in kinds and (numbers or kind == "email"):
            text = PATTERNS[kind].sub(partial(_replacement, kind, found), text)
    return text


def _replacement(kind: PiiKind, found: Counter[str], match: re.Match[str]) -> str:
    text = match[0]
    if kind == "iban":
        return _iban(text, found)
    if not CHECKS.get(kind, _plausible)(text):
        return text
    found[kind] += 1
    return f"<{kind}>"


def _iban(text: str, found: Counter[str]) -> str:
    """The pattern may have taken words that follow the number: shorter readings are tried too."""
    candidate = text
    while candidate:
        if iban.is_valid(candidate, check_country=False):
            found["iban"] += 1
            return "<iban>" + text[len(candidate) :]
        candidate = candidate.rpartition(" ")[0]
    return text


def _plausible(_text: str) -> bool:
    return True


def _is_card(text: str) -> bool:
    digits = re.sub(r"[ -]", "", text)
    # Issuers' numbers start with 2 to 6; a run of one digit is a filler.
    return digits[0] in "23456" and len(set(digits)) > 1 and luhn.is_valid(digits)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return DIGIT.search(text) is not None


def _is_phone(text: str) -> bool:
    return 8 <= sum(character.isdigit() for character in text) <= 15


CHECKS: dict[PiiKind, Callable[[str], bool]] = {
    "card": _is_card,
    "ip": _is_ip,
    "phone": _is_phone,
    "ssn": ssn.is_valid,
}
