"""Words beside a number that say what it is, in the languages that most people write (`number_words.json`)."""

from __future__ import annotations

import json
import re
from pathlib import Path

WORDS: dict[str, list[str]] = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
BEFORE_CHARACTERS = 40  # of the text before a number that are looked at
AFTER_CHARACTERS = 12


def _any_of(section: str) -> str:
    # Beyond Latin, Greek and Cyrillic words are found inside of others: many are not apart, or have prefixes and endings.
    # Those that are a part of common other words are in brackets.
    inside = [word for word in WORDS[section] if word[0] >= "\u0590"]
    whole = [word for word in WORDS[section] if word not in inside]
    return rf"(?:(?<![^\W_])(?:{'|'.join(whole)})(?![^\W\d_])|{'|'.join(inside)})"


_LINK = rf"(?:[\s:#=(\"'*._-]|{_any_of('link')}){{0,8}}$"
_SENTENCE_ENDS = ".!?\n\u3002\uff01\uff1f"

# Also in names of fields, as `homePhone` and `phone_primary`, but not in `call_id` or `call_duration`; and before `No.`.
_NO_NUMBER = "id|duration|verified|created|updated|country|model|os|serial|order|type|count|status|price|ts|at(?!_)"
_FIELD = rf"(?![\s-]?id(?![a-z])|_(?:{_NO_NUMBER})(?![a-z]))(?:_?[1-9](?=\W))?"
_PHONE = rf"(?:{_any_of('phone')}|(?-i:(?<=[a-z]{{2}})(?:Phone|Mobile)(?![a-z]))){_FIELD}(?:\.?\s?(?:no|nr)(?=\.))?"
PHONE_BEFORE = re.compile(rf"{_PHONE}\.?[^\d{_SENTENCE_ENDS}]{{0,16}}$", re.IGNORECASE)
PRICE_BEFORE = re.compile(rf"{_any_of('price')}[^\d{_SENTENCE_ENDS}]{{0,24}}$", re.IGNORECASE)
SSN_BEFORE = re.compile(rf"(?<![^\W_])(?:ssn|social security)[^\d{_SENTENCE_ENDS}]{{0,16}}$", re.IGNORECASE)
VERSION_BEFORE = re.compile(_any_of("version") + _LINK, re.IGNORECASE)
IDENTIFIER_BEFORE = re.compile(_any_of("identifier") + _LINK, re.IGNORECASE)
MORE_OF_A_LIST = re.compile(rf"\s*(?:[,;/&\u3001\uff0c]|->|\u2192|-|{_any_of('more')})\s*", re.IGNORECASE)
_CURRENCIES = "[$\u00a2-\u00a5\u20a0-\u20c0]"  # ¢ to ¥, and Unicode's block of currencies
MONEY_BEFORE = re.compile(rf"(?:{_CURRENCIES}|\b(?:EUR|USD|GBP|CHF|JPY|CNY|INR|RUB|BRL|Rs))\.?\s?$")
AMOUNT_AFTER = re.compile(rf"\s?(?:{_CURRENCIES}|%|{_any_of('unit')})", re.IGNORECASE)


def says_before(pattern: re.Pattern[str], text: str, start: int) -> bool:
    """Whether a pattern that ends with `$` is found right before a place of a text."""
    return start > 0 and pattern.search(text, max(0, start - BEFORE_CHARACTERS), start) is not None


def is_amount(text: str, start: int, end: int) -> bool:
    """Whether a currency or a unit stands beside the number from `start` to `end`."""
    before = MONEY_BEFORE.search(text, max(0, start - 6), start)
    return before is not None or AMOUNT_AFTER.match(text, end, end + AFTER_CHARACTERS) is not None
