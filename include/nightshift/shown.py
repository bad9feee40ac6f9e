"""Text that users and models wrote, as it may be shown or kept: whatever it looks like, it is text."""

from __future__ import annotations

import re
import unicodedata

# Joiners of emoji and of Indic and Persian letters: without them, words fall apart.
_JOINERS = {"\u200c", "\u200d"}
_UNSEEN = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}  # control, format (also of direction), private, surrogate, separators
_UNKEPT = {"Cc", "Cs"}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|~&])")


def shown(text: str, most: int) -> str:
    """Return at most `most` characters of a text on one line; what cannot be seen is named, as in `⟨U+202E⟩`.

    So no escape sequence reaches a terminal and no mark turns the text around it. It is not escaped for HTML.
    """
    return _named(" ".join(re.split(r"[ \t\r\n]+", _cut(text, most))), _UNSEEN)


def shown_lines(text: str, most: int = 20_000) -> str:
    """Return the same on the lines that it has, with the spaces and tabs in these but at their ends."""
    lines = _cut(text, most).splitlines()
    return "\n".join("\t".join(_named(part, _UNSEEN) for part in line.rstrip().split("\t")) for line in lines)


def storable(text: str) -> str:
    """Return a text as storage, MLflow and databases can keep it: its lines stay, other control characters are named.

    So are halves of surrogate pairs, which a form can hold and UTF-8 cannot.
    """
    return "".join(one if one in "\t\r\n" else _named(one, _UNKEPT) for one in text)


def in_markdown(text: str) -> str:
    """Return a text in which Markdown and the HTML in it are only characters."""
    return _MARKDOWN.sub(r"\\\1", text)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _named(text: str, unseen: set[str]) -> str:
    """The text with the code in place of each character of these categories."""
    return "".join(
        f"⟨U+{ord(one):04X}⟩" if unicodedata.category(one) in unseen and one not in _JOINERS else one for one in text
    )
