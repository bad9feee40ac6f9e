"""A model's greedy answers to examples, and how likely it finds the wanted ones, both from one pass over each prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nightshift.inference.engine import Report, TransformersEngine
from nightshift.inference.model import LoadedModel, load
from nightshift.training.tokens import TokenizedExample

__all__ = ["Answer", "LoadedModel", "answer_all", "load"]

BATCH_TOKENS = 65_536  # at most, whatever the settings' batch size: bounds the memory of long prompts


@dataclass(frozen=True)
class Answer:
    """What a model said to one prompt, and how likely it found the wanted answer.

    :param finished: whether it ended by itself, within the allowed tokens.
    :param wanted_loss: summed negative log-likelihood (nats) of the wanted answer's tokens, its end token included.
    """

    text: str
    tokens: int
    finished: bool
    wanted_loss: float


def answer_all(
    loaded: LoadedModel,
    examples: Sequence[TokenizedExample],
    *,
    max_new_tokens: int,
    batch_size: int,
    report: Report = lambda done, of: None,
) -> list[Answer]:
    """Return the greedy answer of at most `max_new_tokens` tokens to each example, in the order of the examples."""
    engine = TransformersEngine(loaded, max_new_tokens=max_new_tokens, batch_tokens=BATCH_TOKENS, batch_rows=batch_size)
    generated = engine.generate(
        [example.prompt for example in examples], report, wanted=[example.answer for example in examples]
    )
    return [
        Answer(engine.text(one.tokens), len(one.tokens), one.finish_reason == "stop", one.wanted_loss or 0.0)
        for one in generated
    ]
