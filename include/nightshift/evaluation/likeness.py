"""How like a response is to the reference answer, fast enough for every row of an interval.

ROUGE-L is the F-measure that rouge-score gives with :func:`stems` as its tokenizer: its own one knows the letters a to z
and nothing else. The longest common subsequence is counted in the bits of one integer instead of a table: H. Hyyrö,
"Bit-parallel LCS-length computation revisited" (2004).
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from functools import cache, lru_cache
from typing import Any

from nightshift.data.words import composed, words

# The stemmer recurses once for each `y` in a row; no word of a language is as long as this.
LONGEST_STEMMED_CHARACTERS = 100
# At the end of a text: Latin, Chinese and Japanese, Hindi, Urdu, Armenian, Amharic, Burmese, Khmer.
FULL_STOP = re.compile("\\s*[.\u3002\u0964\u06d4\u0589\u1362\u104b\u17d4]$")
MOST_WORDS = 10_000  # of a text that are compared: the time grows with the square of their number


def normalised(text: str) -> str:
    """Return a text as exact match compares it."""
    return FULL_STOP.sub("", " ".join(unicodedata.normalize("NFKC", composed(text)).casefold().split()))


def exact_match(response: str, reference: str) -> float:
    """Return 1 where both are equal as :func:`normalised` gives them, else 0."""
    return float(normalised(response) == normalised(reference))


def rouge_l(response: str, reference: str) -> float:
    """Return the F-measure of the longest common subsequence of stemmed words, 0 to 1.

    The first 10,000 words of each text count. For a reference without words, such as an emoji, it is the exact match.
    """
    found, expected = stems(response)[:MOST_WORDS], stems(reference)[:MOST_WORDS]
    if not expected:
        return exact_match(response, reference)
    return 2 * _longest_common_subsequence(found, expected) / (len(found) + len(expected))


def stems(text: str) -> list[str]:
    """Return the words of a text; those of the letters a to z without their English endings (Porter), as rouge-score has it."""
    return [_stem(word) if word.isascii() else word for word in words(text)]


@lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    plain = word.removesuffix("'s")
    return str(_stemmer().stem(plain)) if 3 < len(plain) <= LONGEST_STEMMED_CHARACTERS and plain.isalpha() else plain


@cache
def _stemmer() -> Any:
    """Porter's stemmer; its library takes seconds to import, which an interval without references need not wait for."""
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


def _longest_common_subsequence(one: list[str], other: list[str]) -> int:
    """Return its length. Bit i of `places[word]` says that `one[i]` is that word."""
    places: defaultdict[str, int] = defaultdict(int)
    for index, word in enumerate(one):
        places[word] |= 1 << index
    everywhere = (1 << len(one)) - 1
    unmatched = everywhere
    for word in other:
        here = unmatched & places.get(word, 0)
        unmatched = ((unmatched + here) | (unmatched - here)) & everywhere
    return len(one) - unmatched.bit_count()
