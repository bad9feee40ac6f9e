"""What every engine offers: conversations in, responses out, in their order.

Whoever needs answers asks an :class:`Engine`. An engine that runs a model by itself is a :class:`TokenEngine` behind
`chat_engine.py`, which renders conversations with the model's chat template; one that is an endpoint takes them as they are.
What is chosen of the likely tokens is the application's `decoding`, which an engine is made with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Generated:
    """The answer to one prompt, in tokens.

    :param tokens: token ids of the answer, without the end token; what holds a stop string is still among them.
    :param finish_reason: `stop` where the model or a stop string ended it, `length` where the limit did.
    :param latency_ms: from the start of the row's batch to the row's end.
    :param reference_loss: summed negative log-likelihood (nats) of the reference answer's tokens, where one was given.
    :param logprob: mean log-probability (nats) of the tokens, the end token included, before temperature and penalties; None
        where the engine was made without.
    """

    tokens: list[int]
    finish_reason: Literal["stop", "length"]
    latency_ms: float
    reference_loss: float | None = None
    logprob: float | None = None


@dataclass(frozen=True)
class Continuation:
    """Token ids, of which those from `start` (at least 1) on continue the others."""

    tokens: list[int]
    start: int


class TokenEngine(Protocol):
    """Whatever answers prompts that are given as token ids; `longest` is what prompt and answer may have together."""

    name: str
    tokenizer: Any
    longest: int
    device: str
    precision: str

    def generate(
        self,
        prompts: Sequence[list[int]],
        report: Report,
        *,
        seeds: Sequence[int] | None = None,
        references: Sequence[list[int]] | None = None,
    ) -> list[Generated]:
        """Return the answers in the order of the prompts; `report` hears how many of how many are done.

        :param seeds: one for each prompt, which decide what is drawn for it where the temperature is above 0.
        :param references: an answer for each prompt whose likelihood is measured too, its end token included. No decoding setting
            changes it.
        """

    def likelihoods(self, sequences: Sequence[Continuation], report: Report) -> list[float]:
        """Return how likely each continuation is, in the order given: the summed log-likelihood (nats) of its tokens."""


def about(engine: TokenEngine) -> dict[str, Any]:
    """Return what a manifest keeps of an engine."""
    return {"engine": engine.name, "device": engine.device, "precision": engine.precision}


@dataclass(frozen=True)
class ReferenceAnswer:
    """The answer that a conversation ends with, as the model's template writes it, and how likely the model finds it.

    :param loss: summed negative log-likelihood (nats) of its `tokens` tokens, the end token included; both are 0 where it
        was not measured.
    """

    text: str
    tokens: int
    loss: float


@dataclass(frozen=True)
class Response:
    """The answer to one conversation.

    :param text: without reasoning and white space around it.
    :param reasoning: what a model thinks before it answers, between `<think>` and `</think>`.
    :param tokens: as they were generated, reasoning included, without the end token; `reasoning_tokens` of them are its.
    :param finish_reason: `stop`, `length`, or `refused` by an endpoint; `refusal` is its message.
    :param latency_ms: None if not measured.
    :param logprob: mean log-probability (nats) of the tokens; None where the engine does not tell.
    :param too_long: the model cannot read the conversation and leave room for an answer: it was not asked.
    :param reference: the answer that the conversation ends with, if `references` were asked for.
    :param cost: what an endpoint takes for it, in the currency of its `price`.
    :param saved: what of that was not paid, because the request of an equal conversation answered this one, too.
    :param steps: the answers of a sequence of prompts (`STEPS` of data/interactions.py); the other numbers are sums over them.
    """

    text: str
    tokens: int
    finish_reason: Literal["stop", "length", "refused"]
    reasoning: str = ""
    reasoning_tokens: int = 0
    prompt_tokens: int = 0
    latency_ms: float | None = None
    logprob: float | None = None
    too_long: bool = False
    refusal: str = ""
    cost: float = 0.0
    saved: float = 0.0
    reference: ReferenceAnswer | None = None
    steps: list[dict[str, Any]] | None = None

    @property
    def paid(self) -> float:
        """What was paid for it."""
        return self.cost - self.saved


class Engine(Protocol):
    """What answers conversations: one model, or one version of it, with one way to decode."""

    @property
    def about(self) -> dict[str, Any]:
        """What a manifest keeps of it: `engine`, `device` and `precision` at least."""

    def answer(
        self, rows: Sequence[Mapping[str, Any]], report: Report, *, sample: int = 0, references: bool = False
    ) -> list[Response]:
        """Return the responses in the order of the rows.

        :param rows: `digest`, `messages` and perhaps `tools` of each, as examples have them. An answer at the end of
            `messages` is what is asked for, and not shown.
        :param sample: which of several answers to each row, where the temperature is above 0.
        :param references: measure also how likely the answer is that each row ends with.
        :raises BadInput: the model's template refuses a row.
        """

    def likelihoods(self, rows: Sequence[Mapping[str, Any]], report: Report) -> list[float | None]:
        """Return how likely the answer is that each row ends with: the summed log-likelihood (nats) of its tokens.

        None where the model cannot read so much, or does not tell.
        """


def seed_of(seed: int, digest: str, sample: int = 0) -> int:
    """Return the seed of one row's draws, below 2**63: that of a row depends on no other row.

    :param seed: of the application's decoding.
    :param sample: which of several answers to the row, from 0.
    """
    key = hashlib.sha256(f"{seed}/{digest}/{sample}".encode()).digest()
    return int.from_bytes(key[:8], "big") >> 1
