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


def composed(text: str) -> str:
    """Return a text without what nobody sees, letters and their marks in one form (NFC), for what compares characters."""
    return unicodedata.normalize("NFC", UNSEEN.sub("", text))


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
