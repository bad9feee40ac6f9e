"""A text as a search for personal data reads it: one digit, dash, space and letter for those of all scripts."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

LATIN, SPACED, UNSPACED = "é", "ж", "字"  # what letters become: Latin, of other scripts with spaces, of scripts without
# Thai, Lao, Tibetan, Burmese, Khmer, Chinese and Japanese put no space between words, Korean none before particles.
WITHOUT_SPACES = re.compile(
    "[\u0e00-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u31ff\u3400-\u9fff\ua960-\ua97f\uaa60-\uaa7f\uac00-\ud7ff"
    "\uf900-\ufaff\uff66-\uffdc\U00020000-\U0003ffff]"
)
# Joiners, marks of direction, soft hyphens, variation selectors and key caps: they show nothing, or only a frame.
INVISIBLE = re.compile("[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20e3\ufe00-\ufe0f\ufeff]")
FULL_WIDTH = re.compile("[\uff01-\uff5e\ufe50-\ufe6b]")
# What stands for a dash between digits alone: middle dots, bullets, fraction slashes, drawn lines, a Japanese long vowel.
LIKE_A_DASH = re.compile(
    r"[\u00b7\u2022\u2024\u2027\u2043\u2044\u2215\u2219\u22c5\u2500\u2501\u2796\u30fb\u30fc\uff65](?<=\d.)(?=\d)"
)
BLANK = "\u115f\u1160\u2800\u3164\uffa0"  # letters and signs that show nothing, but take room


@dataclass(frozen=True, slots=True)
class PlainText:
    """The same text three times; `letters` and `plain` lack what is invisible and have equal length.

    `letters` is otherwise the original. In `plain` everything outside of ASCII stands for its kind: digits are 0 to 9,
    spaces and dashes are those of ASCII, so are full-width forms, and letters are one of three.
    """

    original: str
    letters: str
    plain: str
    _left_out: list[int] = field(default_factory=list)  # for each invisible character: its place in `letters`

    @classmethod
    def of(cls, text: str) -> PlainText:
        """Read a text."""
        if text.isascii():
            return cls(text, text, text)
        letters, left_out = text, []
        if INVISIBLE.search(text):
            left_out = [match.start() - number for number, match in enumerate(INVISIBLE.finditer(text))]
            letters = INVISIBLE.sub("", text)
        return cls(text, letters, LIKE_A_DASH.sub("-", letters).translate(_PLAIN), left_out)

    def replaced(self, spans: list[tuple[int, int, str]]) -> str:
        """Return the original with each span (start, end, what to write there) replaced; spans are apart, in order."""
        pieces, after = [], 0
        for start, end, text in spans:
            pieces += [self.original[after : self._place(start)], text]
            after = self._place(end - 1) + 1
        return "".join([*pieces, self.original[after:]])

    def _place(self, position: int) -> int:
        return position + bisect_right(self._left_out, position)


def blanked(plain: str, spans: Iterable[tuple[int, int]]) -> str:
    """The text with what was found blanked out, so that nothing else is found in it."""
    pieces, after = [], 0
    for start, end in spans:
        pieces += [plain[after:start], "\0" * (end - start)]
        after = end
    return "".join([*pieces, plain[after:]])


class _Plain(dict[int, str]):
    """A table for `str.translate` that looks a character up when it first occurs."""

    def __missing__(self, code: int) -> str:
        plain = self[code] = _plain(chr(code))
        return plain


_PLAIN = _Plain()


def _plain(character: str) -> str:
    category = unicodedata.category(character)
    plain = character
    if character.isascii():
        pass
    elif category == "Nd":
        plain = str(unicodedata.decimal(character))
    elif category == "Zs" or character in BLANK:
        plain = " "
    elif category in ("Zl", "Zp"):
        plain = "\n"
    elif category == "Pd" or character == "\u2212":  # the minus sign is a sign of mathematics
        plain = "-"
    elif FULL_WIDTH.match(character):
        plain = unicodedata.normalize("NFKC", character)
    elif WITHOUT_SPACES.match(character):
        plain = UNSPACED if category[0] in "LM" else character
    elif category[0] in "LM":
        plain = LATIN if "LATIN" in unicodedata.name(character, "") or "\u0300" <= character <= "\u036f" else SPACED
    return plain
