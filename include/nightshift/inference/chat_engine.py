"""A chat engine on top of a token engine: renders conversations with the model's chat template and decodes the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nightshift.inference.engine import (
    Continuation,
    Generated,
    ReferenceAnswer,
    Report,
    Response,
    TokenEngine,
    about,
    seed_of,
)
from nightshift.inference.reasoning import BEGIN, END, apart
from nightshift.settings.decoding import Decoding
from nightshift.settings.prompt import Prompt
from nightshift.training.chat_template import ChatTemplate
from nightshift.training.tokens import prompt_ids, tokenize

END_OF_PROMPT = 16  # tokens: more than `<think>` and white space behind it


class ChatEngine:
    """Answers conversations with a model whose engine takes token ids.

    :param max_new_tokens: longest answer; the token engine was made with the same, and with the same decoding.
    :raises BadInput: the model's chat template cannot be used.
    """

    def __init__(self, engine: TokenEngine, prompt: Prompt, decoding: Decoding, *, max_new_tokens: int) -> None:
        self._engine, self._decoding, self._max_new_tokens = engine, decoding, max_new_tokens
        self._prompt, self._template = prompt, ChatTemplate(engine.tokenizer, prompt)

    @property
    def about(self) -> dict[str, Any]:
        """What a manifest keeps of it."""
        return about(self._engine)

    def answer(
        self, rows: Sequence[Mapping[str, Any]], report: Report, *, sample: int = 0, references: bool = False
    ) -> list[Response]:
        """Return the responses in the order of the rows, as :class:`Engine` says."""
        # The likelihood of an answer depends on the reasoning before it, which is unknown.
        measured = references and not self._prompt.thinks
        examples = list(tokenize(rows, self._template)) if references else []
        answers = [one.answer for one in examples] if references else [[] for _ in rows]
        prompts = [one.prompt for one in examples] if measured else list(prompt_ids(rows, self._template))
        needed = [max(self._max_new_tokens, len(answer)) for answer in answers]
        fits = [place for place, prompt in enumerate(prompts) if len(prompt) + needed[place] <= self._engine.longest]
        generated = self._engine.generate(
            [prompts[place] for place in fits],
            report,
            seeds=[seed_of(self._decoding.seed, str(rows[place]["digest"]), sample) for place in fits],
            references=[answers[place] for place in fits] if measured else None,
        )
        found = dict(zip(fits, generated, strict=True))
        return [
            self._response(prompt, found.get(place), row, answer if references else None)
            for place, (row, prompt, answer) in enumerate(zip(rows, prompts, answers, strict=True))
        ]

    def likelihoods(self, rows: Sequence[Mapping[str, Any]], report: Report) -> list[float | None]:
        """Return the likelihoods of the rows' answers, as :class:`Engine` says; None for a prompt with reasoning."""
        examples = [] if self._prompt.thinks else list(tokenize(rows, self._template))
        fits = [place for place, one in enumerate(examples) if len(one) <= self._engine.longest]
        asked = [Continuation(examples[place].ids, len(examples[place].prompt)) for place in fits]
        found = dict(zip(fits, self._engine.likelihoods(asked, report), strict=True))
        return [found.get(place) for place in range(len(rows))]

    def _response(
        self, prompt: list[int], generated: Generated | None, row: Mapping[str, Any], answer: list[int] | None
    ) -> Response:
        reference = None
        if answer is not None:
            # A tool call is compared as the template writes it, without the end of the turn.
            calls = row["messages"][-1].get("tool_calls")
            text = self._text(answer[:-1]).strip() if calls else str(row["messages"][-1]["content"])
            text = apart(text)[1] if END in text else text
            loss = generated.reference_loss if generated else None
            reference = ReferenceAnswer(text, 0 if loss is None else len(answer), loss or 0.0)
        if generated is None:
            return Response("", 0, "length", prompt_tokens=len(prompt), too_long=True, reference=reference)
        text, begun = self._cut(self._text(generated.tokens)), self._ends_with_begin(prompt)
        reasoning, answer_text = apart(text, begun)
        return Response(
            answer_text,
            len(generated.tokens),
            generated.finish_reason,
            reasoning,
            self._reasoning_tokens(generated.tokens) if reasoning else 0,
            len(prompt),
            generated.latency_ms,
            generated.logprob,
            reference=reference,
        )

    def _text(self, tokens: list[int]) -> str:
        return str(self._engine.tokenizer.decode(tokens, skip_special_tokens=True))

    def _cut(self, text: str) -> str:
        """The text before the first stop string."""
        found = [at for at in (text.find(stop) for stop in self._decoding.stop) if at >= 0]
        return text[: min(found)] if found else text

    def _ends_with_begin(self, prompt: list[int]) -> bool:
        return self._text(prompt[-END_OF_PROMPT:]).rstrip().endswith(BEGIN)

    def _reasoning_tokens(self, tokens: list[int]) -> int:
        """The number of tokens up to the end of the reasoning; all tokens if it does not end."""
        low, high = 0, len(tokens)
        if END not in self._text(tokens):
            return high
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if END in self._text(tokens[:middle]) else (middle + 1, high)
        return low
