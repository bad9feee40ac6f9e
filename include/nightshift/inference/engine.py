"""The interface of all engines: conversations in, responses out, in the same order.

Callers use an :class:`Engine`. A model that runs here is a :class:`TokenEngine` behind `chat_engine.py`, which renders
conversations with the model's chat template; an endpoint takes conversations as they are. An engine is made with the
application's `decoding`.
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

    :param tokens: token ids of the answer, without the end token but with a stop string.
    :param finish_reason: `stop` if the model or a stop string ended it, `length` if the limit did.
    :param latency_ms: from the start of the row's batch to the row's end.
    :param reference_loss: summed negative log-likelihood (nats) of the reference answer's tokens, where one was given.
    :param logprob: mean log-probability (nats) of the tokens, the end token included, before temperature and penalties; None
        if the engine was made without.
    """

    tokens: list[int]
    finish_reason: Literal["stop", "length"]
    latency_ms: float
    reference_loss: float | None = None
    logprob: float | None = None


@dataclass(frozen=True)
class Continuation:
    """Token ids; those from `start` (at least 1) on are the continuation."""

    tokens: list[int]
    start: int


class TokenEngine(Protocol):
    """Answers prompts given as token ids; `longest` is the limit of prompt and answer together, in tokens."""

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
        """Return the answers in the order of the prompts; `report` is called with the numbers of done and of all prompts.

        :param seeds: one for each prompt, for sampling at a temperature above 0.
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
    :param logprob: mean log-probability (nats) of the tokens; None if the engine does not report it.
    :param too_long: the conversation leaves no room for an answer, so the model was not asked.
    :param reference: the answer that the conversation ends with, if `references` were asked for.
    :param cost: the endpoint's cost of the answer, in the currency of its `price`.
    :param saved: the part that was not paid, because one request answered several equal conversations.
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
        """The paid cost."""
        return self.cost - self.saved


class Engine(Protocol):
    """Answers conversations with one model and one set of decoding settings."""

    @property
    def about(self) -> dict[str, Any]:
        """What a manifest keeps of it: `engine`, `device` and `precision` at least."""

    def answer(
        self, rows: Sequence[Mapping[str, Any]], report: Report, *, sample: int = 0, references: bool = False
    ) -> list[Response]:
        """Return the responses in the order of the rows.

        :param rows: `digest`, `messages` and possibly `tools` of each, as in examples. An answer at the end of `messages` is
            the reference, which the model is not shown.
        :param sample: number of the sample, for temperatures above 0.
        :param references: also measure the likelihood of each row's reference.
        :raises BadInput: the model's template refuses a row.
        """

    def likelihoods(self, rows: Sequence[Mapping[str, Any]], report: Report) -> list[float | None]:
        """Return the likelihood of each row's reference: the summed log-likelihood (nats) of its tokens.

        None if the row is too long for the model, or the engine does not report likelihoods.
        """


def seed_of(seed: int, digest: str, sample: int = 0) -> int:
    """Return the seed of one row's draws, below 2**63, independent of other rows.

    :param seed: of the application's decoding.
    :param sample: which of several answers to the row, from 0.
    """
    key = hashlib.sha256(f"{seed}/{digest}/{sample}".encode()).digest()
    return int.from_bytes(key[:8], "big") >> 1
