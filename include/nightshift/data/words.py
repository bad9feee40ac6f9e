"""The words and numbers of a text in any script, as scores compare them.

Words end where Unicode's default rules say (UAX #29, by the library `regex`). Scripts that write no spaces (Chinese,
Japanese, Thai, Lao, Khmer, Burmese) show no such ends without a dictionary: there each character with its marks is a word,
as in sacrebleu's Chinese tokenizer. Katakana stays together.
"""

from __future__ import annotations

import unicodedata

import regex

BOUNDARY = regex.compile(r"\b", regex.WORD | regex.VERSION1)
WORD = regex.compile(r"[\p{L}\p{N}]")
# A minus or plus in front of a number, as in `-5` and `-$5`; those of `10-12`, `covid-19` and `(a)-1` are none.
SIGN = regex.compile(r"(?<![\w\p{Pe}%+-])(?<!\w\p{Sc})[-+](?=\p{Sc}?\d)")
UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*")
FLAGS = regex.compile(r"\p{RI}+")  # are no words, and the time to tell them apart grows with the square of their number
# To an apostrophe and a minus as typewriters have them; an en dash may be a minus, too. Then Arabic's decimal and
# thousands separators.
TYPOGRAPHIC = str.maketrans("\u2018\u2019\u2010\u2013\u2212\u066b\u066c", "''---.,")
UNSEEN = regex.compile(r"\p{Default_Ignorable_Code_Point}+")  # soft hyphens, zero-width spaces and joiners, selectors
DIGIT = regex.compile(r"[\p{Nd}--[0-9]]", regex.VERSION1)  # of a script other than ASCII

# Letters and digits of another width, and what shows nothing: soft hyphens, zero-width spaces, marks of direction, tatweel.
# Joiners stay, which make other words in Persian and other signs of emoji.
SAME = regex.compile(
    "[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uff9f]+|[\u00ad\u0640\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)


def composed(text: str) -> str:
    """Return a text without what nobody sees, letters and their marks in one form (NFC), for what compares characters."""
    return unicodedata.normalize("NFC", UNSEEN.sub("", text))


def folded(text: str) -> str:
    """Return a text in one width, without what shows nothing, white space collapsed; a space where nothing is left."""
    if text.isascii():
        return text
    text = SAME.sub(lambda found: unicodedata.normalize("NFKC", found[0]) if found[0] >= "\uff10" else "", text)
    return " ".join(text.split()) or " "


def spaced(text: str) -> str:
    """Return a text with spaces around the characters of scripts that write none, for tokenizers that split at spaces."""
    return UNSPACED.sub(r" \g<0> ", composed(text))


def words(text: str) -> list[str]:
    """Return the words and numbers of a text in order, in lower case and after NFKC.

    `3.14`, `1,250.50` and `don't` are one each, and a number keeps its sign. Punctuation, symbols and what nobody sees are
    left out. Digits of all scripts are those of ASCII.
    """
    plain = unicodedata.normalize("NFKC", UNSEEN.sub("", text)).translate(TYPOGRAPHIC).casefold()
    plain = FLAGS.sub(" ", DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0], digit[0])), plain))
    found, place, sign = [], 0, ""
    for segment in BOUNDARY.split(plain):
        if WORD.search(segment):
            found.append(sign + segment)
            sign = ""
        elif SIGN.match(plain, place):
            sign = segment
        place += len(segment)
    return found
