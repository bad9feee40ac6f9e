"""Text that users and models wrote, as a page, a log or a note may show it: whatever it looks like, it is text."""

from __future__ import annotations

import re
import unicodedata

# Joiners of emoji and of Indic and Persian letters: without them, words fall apart.
_JOINERS = {"\u200c", "\u200d"}
_UNSEEN = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}  # control, format (also of direction), private, surrogate, separators
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


def in_markdown(text: str) -> str:
    """Return a text in which Markdown and the HTML in it are only characters."""
    return _MARKDOWN.sub(r"\\\1", text)
