"""Texts of people and models in a conversation that is rendered: marks stand in their place, so that what the template wrote is
told from what it was given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from nightshift.training.control_tokens import ControlTokens
from nightshift.training.tool_turns import Message, replaced


class Marks:
    """The marked texts of one conversation.

    :param renamed: a text holds control tokens, so those of the template are renamed.
    :param secret: what marks begin with; nobody can guess it.
    """

    def __init__(self, control: ControlTokens, renamed: bool, secret: str) -> None:
        self.texts: list[str] = []
        self.renamed = renamed
        self._control, self._secret = control, secret

    def said(self, answer: str) -> str:
        """Return the mark of an answer, in which the control tokens that models say are tokens."""
        return self._mark(self._control.rename_said(answer) if self.renamed else answer)

    def within(self, message: Message) -> Message:
        """Return a message of what is given, in which nothing is a control token that people wrote."""
        if not self.renamed:
            return message
        content = message["content"]
        if message["role"] == "assistant":
            content = self._as_text(self._control.special, content)
        elif message["role"] == "tool":
            content = self._as_text(self._control.any, content)  # some templates quote the rest, by the rules of JSON
        elif core := content.strip():
            # Nothing of it is left that could become a control token together with what stands beside it.
            content = content.replace(core, self._mark(core))
        calls = {"tool_calls": self.inside(message["tool_calls"])} if "tool_calls" in message else {}
        return {**message, "content": content, **calls}

    def inside(self, value: Any) -> Any:
        """Return calls or tools in which no text is a control token."""
        return replaced(value, lambda text: self._as_text(self._control.any, text)) if self.renamed else value

    def cut(self, rendered: str, expected: Sequence[int]) -> tuple[list[str], list[int]]:
        """Return what stands before, between and behind the expected texts, and the numbers of those, in their order."""
        frames, found = [""], []
        for at, piece in enumerate(re.split(f"{self._secret}([0-9]+)z", rendered)):
            if at % 2 == 0:
                frames[-1] += self._control.rename(piece) if self.renamed else piece
            elif int(piece) in expected:
                found.append(int(piece))
                frames.append("")
            else:
                frames[-1] += self.texts[int(piece)]
        return frames, found

    def _mark(self, text: str) -> str:
        self.texts.append(text)
        return f"{self._secret}{len(self.texts) - 1}z"

    def _as_text(self, control: re.Pattern[str], text: str) -> str:
        return control.sub(lambda found: self._mark(found.group()), text)
