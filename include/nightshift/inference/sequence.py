"""Answers through a fixed sequence of prompts to the same model, such as classify, answer, check.

The answer of a step is a variable of the later ones, by the step's name. It is plain text in the user's turn: nothing in it is
interpreted as a template, a tag or a control token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nightshift.inference.engine import Engine, Report, Response
from nightshift.settings.prompt import Prompt

Row = dict[str, Any]


def in_steps(prompt: Prompt, engine_for: Callable[[Prompt], Engine]) -> Engine:
    """Return the engine that answers with a prompt: one for each of its steps, where it has some."""
    if not prompt.steps:
        return engine_for(prompt)
    return SequenceEngine({step.name: engine_for(prompt.at(step.name)) for step in prompt.steps}, len(prompt.before))


class SequenceEngine:
    """Runs each row through all steps, one after the other.

    :param engines: the steps' engines by name, in order.
    :param answering: index of the step whose answer is the application's. Only this step is offered a row's tools.
    """

    def __init__(self, engines: Mapping[str, Engine], answering: int) -> None:
        self._engines, self._names = engines, [*engines]
        self._answering = self._names[answering]
        self._before = self._names[:answering]

    @property
    def about(self) -> dict[str, Any]:
        """What a manifest keeps of it: that of the answering step's engine, and the names of all steps."""
        return {**self._engines[self._answering].about, "steps": self._names}

    def answer(
        self, rows: Sequence[Mapping[str, Any]], report: Report, *, sample: int = 0, references: bool = False
    ) -> list[Response]:
        """Return the responses in the order of the rows, as :class:`Engine` says, each with the text and the cost of all steps.

        A step without an answer to a row, which was too long or refused, leaves the default of its variable.
        """
        _, answers = self._asked(self._names, rows, report, sample=sample, references=references)
        return [self._together(dict(zip(self._names, row, strict=True))) for row in zip(*answers, strict=True)]

    def likelihoods(self, rows: Sequence[Mapping[str, Any]], report: Report) -> list[float | None]:
        """Return the likelihoods of the rows' answers, as :class:`Engine` says, after running the steps before."""
        given, _ = self._asked(self._before, rows, report)
        return self._engines[self._answering].likelihoods(given, report)

    def _asked(
        self,
        names: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
        report: Report,
        *,
        sample: int = 0,
        references: bool = False,
    ) -> tuple[list[Row], list[list[Response]]]:
        """The rows with the answers to some steps as variables, and these answers by step."""
        given: list[Row] = [{**row, "metadata": dict(row.get("metadata") or ())} for row in rows]
        answers = []
        for number, name in enumerate(names):

            def told(done: int, of: int, before: int = number) -> None:
                report((before * of + done) // len(names), of)

            answering = name == self._answering
            asked = given if answering else [{**row, "tools": None} for row in given]
            responses = self._engines[name].answer(asked, told, sample=sample, references=references and answering)
            given = [
                {**row, "metadata": {**row["metadata"], name: one.text}}
                for row, one in zip(given, responses, strict=True)
            ]
            answers.append(responses)
        return given, answers

    def _together(self, responses: Mapping[str, Response]) -> Response:
        """The answering step's response, with the tokens, the time and the cost of all."""
        answer, every = responses[self._answering], responses.values()
        measured = [one.latency_ms for one in every if one.latency_ms is not None]
        return replace(
            answer,
            tokens=sum(one.tokens for one in every),
            reasoning_tokens=sum(one.reasoning_tokens for one in every),
            prompt_tokens=sum(one.prompt_tokens for one in every if not one.too_long),
            latency_ms=None if answer.latency_ms is None else sum(measured),
            cost=sum(one.cost for one in every),
            saved=sum(one.saved for one in every),
            steps=[
                {"name": name, "text": one.text, "tokens": one.tokens, "finish_reason": one.finish_reason}
                for name, one in responses.items()
            ],
        )
