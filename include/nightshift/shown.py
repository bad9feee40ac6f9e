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
    cut = text if len(text) <= most else text[: most - 1] + "…"
    one_line = " ".join(re.split(r"[ \t\r\n]+", cut))
    return "".join(
        character
        if unicodedata.category(character) not in _UNSEEN or character in _JOINERS
        else f"⟨U+{ord(character):04X}⟩"
        for character in one_line
    )


def storable(text: str) -> str:
    """Return a text as storage, MLflow and databases can keep it: its lines stay, other control characters are named.

    So are halves of surrogate pairs, which a form can hold and UTF-8 cannot.
    """
    return "".join(
        f"⟨U+{ord(character):04X}⟩"
        if unicodedata.category(character) in _UNKEPT and character not in "\t\n\r"
        else character
        for character in text
    )


def in_markdown(text: str) -> str:
    """Return a text in which Markdown and the HTML in it are only characters."""
    return _MARKDOWN.sub(r"\\\1", text)
