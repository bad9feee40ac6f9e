"""A model's greedy answers to examples, and how likely it finds the wanted ones, both from one pass over each prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nightshift.inference.engine import Generated, Report, TransformersEngine
from nightshift.inference.model import LoadedModel, load
from nightshift.training.tokens import TokenizedExample

__all__ = ["Answer", "LoadedModel", "answer_all", "load"]

BATCH_TOKENS = 65_536  # at most, whatever the settings' batch size: bounds the memory of long prompts


@dataclass(frozen=True)
class Answer:
    """What a model said to one prompt, and how likely it found the wanted answer.

    :param finished: whether it ended by itself, within the allowed tokens.
    :param wanted_loss: summed negative log-likelihood (nats) of the wanted answer's tokens, its end token included.
    :param too_long: prompt and answer exceed what the model reads: it was not asked, and the rest says nothing.
    """

    text: str
    tokens: int
    finished: bool
    wanted_loss: float
    too_long: bool = False


def answer_all(
    loaded: LoadedModel,
    examples: Sequence[TokenizedExample],
    *,
    max_new_tokens: int,
    batch_size: int,
    report: Report = lambda done, of: None,
) -> list[Answer]:
    """Return the greedy answer of at most `max_new_tokens` tokens to each example, in the order of the examples.

    An example whose prompt leaves no room for such an answer, or for the wanted one, is too long and not asked.
    """
    engine = TransformersEngine(loaded, max_new_tokens=max_new_tokens, batch_tokens=BATCH_TOKENS, batch_rows=batch_size)
    fits = [len(one.prompt) + max(max_new_tokens, len(one.answer)) <= engine.longest for one in examples]
    asked = [example for example, fit in zip(examples, fits, strict=True) if fit]
    generated = iter(engine.generate([one.prompt for one in asked], report, wanted=[one.answer for one in asked]))
    return [_answer(engine, next(generated)) if fit else Answer("", 0, False, 0.0, too_long=True) for fit in fits]


def _answer(engine: TransformersEngine, one: Generated) -> Answer:
    return Answer(engine.text(one.tokens), len(one.tokens), one.finish_reason == "stop", one.wanted_loss or 0.0)
