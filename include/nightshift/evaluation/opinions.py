"""The application's judge for answers to examples: a score of each, and which of two models' answers is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nightshift.errors import BadEnvironment
from nightshift.evaluation.llm_judge import LlmJudge, Question, question_of
from nightshift.evaluation.scorers import kept_judgements
from nightshift.settings.application import Application

Row = Mapping[str, Any]


def judge_scores(
    rows: Sequence[Row], answers: Sequence[str], contexts: Sequence[str | None], application: Application, storage: str
) -> list[float | None]:
    """Return the judge's score of each answer, 0 to 1; None if it gave none.

    :param rows: the examples (`messages`, `prompt`, and `answer`, the reference), with a model's `answers` and the passages that
        it was given, `contexts`.
    :raises BadEnvironment: the judge does not answer; its earlier judgements are kept.
    """
    questions = [_question(application, *one) for one in zip(rows, answers, contexts, strict=True)]
    return _asked(questions, application, storage)


def win_rates(
    rows: Sequence[Row], answers: Sequence[str], others: Sequence[str], application: Application, storage: str
) -> list[float | None]:
    """Return for each answer whether it is better than another model's: 1, 0, or in between if neither is.

    The judge sees both orders, because of its position bias, and the mean counts. Equal answers are 0.5 without asking.

    :raises BadEnvironment: as :func:`judge_scores`.
    """
    differ = [place for place, pair in enumerate(zip(answers, others, strict=True)) if pair[0] != pair[1]]
    asked = [
        _question(application, rows[at], first[at])._replace(other=second[at])
        for first, second in ((answers, others), (others, answers))
        for at in differ
    ]
    scores = _asked(asked, application, storage)
    rates: list[float | None] = [0.5] * len(answers)
    for at, one, swapped in zip(differ, scores[: len(differ)], scores[len(differ) :], strict=True):
        rates[at] = None if one is None or swapped is None else (one + 1 - swapped) / 2
    return rates


def _question(application: Application, row: Row, answer: str, context: str | None = None) -> Question:
    turns = list(row["messages"][:-1])
    own = turns.pop(0)["content"] if turns and turns[0]["role"] == "system" else None
    asked = [*application.prompt.system_messages(own, row.get("metadata")), *turns]
    return question_of(asked, row["prompt"], answer, context, row["answer"])


def _asked(questions: list[Question], application: Application, storage: str) -> list[float | None]:
    assert application.judge  # noqa: S101  (the settings see to it)
    judge = LlmJudge(application.judge, kept_judgements(application, storage))
    different = list(dict.fromkeys(questions))
    judgements = dict(zip(different, judge.judge(different), strict=True))
    if missing := judge.counts["failed"] + judge.counts["not_asked"]:
        raise BadEnvironment(
            f"the judge at {application.judge.url} gave no answer to {missing:,} of {len(different):,} questions, at last "
            f"because of {judge.failure}; its judgements are kept, and the next try asks for the rest"
        )
    return [judgement and judgement.score for judgement in map(judgements.get, questions)]
