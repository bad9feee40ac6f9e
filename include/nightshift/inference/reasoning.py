"""Separates a model's reasoning from its answer."""

from __future__ import annotations

BEGIN, END = "<think>", "</think>"


def apart(text: str, begun: bool = False) -> tuple[str, str]:
    """Return the reasoning and the answer of a generated text; a text that was cut within its reasoning has no answer.

    Some chat templates end a prompt with `<think>`, so that only the end tag is generated.

    :param begun: the prompt ends with it.
    """
    reasoning, ended, answer = text.rpartition(END)
    if not ended:
        reasoning, answer = (text, "") if begun or text.lstrip().startswith(BEGIN) else ("", text)
    return reasoning.strip().removeprefix(BEGIN).strip(), answer.strip()
