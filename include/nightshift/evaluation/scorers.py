"""Scores interactions in batches, and measures the processor time of each scorer.

All models and rules ship in packages: nothing is loaded from a network. docs/scorers.md describes each score and its
quality.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from nightshift.data.interactions import JUDGE_REASON, OF_SOME_LANGUAGES, SCORES, UNSCORED, Unscored
from nightshift.data.measures import UNDETERMINED, TextMeasures
from nightshift.data.pii import ORDER, redact
from nightshift.evaluation import heads, sentiment
from nightshift.evaluation.groundedness import groundedness
from nightshift.evaluation.heads import Heads
from nightshift.evaluation.judgements import Judgement, KeptJudgements
from nightshift.evaluation.languages import differ, language_of, response_language
from nightshift.evaluation.likeness import exact_match, rouge_l
from nightshift.evaluation.llm_judge import LlmJudge, Question, question_of
from nightshift.evaluation.own_scorers import load_own_scorers
from nightshift.evaluation.sentiment import Sentiment
from nightshift.evaluation.validity import is_valid
from nightshift.settings.application import Application
from nightshift.settings.judging import OPINION
from nightshift.settings.project import project_folder
from nightshift.settings.prompt_file import Metadata
from nightshift.storage.partition import partition_of

# Why a row may lack a score.
NOT_FOR_EVERY_ROW = {
    **dict.fromkeys(OF_SOME_LANGUAGES, Unscored.NOT_APPLICABLE),
    "groundedness": Unscored.NOT_APPLICABLE,
    "judge": Unscored.NOT_SAMPLED,
    "exact_match": Unscored.NOT_APPLICABLE,
    "rouge_l": Unscored.NOT_APPLICABLE,
}
# Keys of the rows of own scorers.
OWN_SCORERS_SEE = ("prompt", "response", "context", "reference", "metadata", "language", "messages")

log = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Messages = Sequence[Mapping[str, str]]


class Scorers:
    """All scorers of one application, built-in and own ones, loaded once.

    `seconds` holds the processor seconds of each scorer so far, over all threads; refusal and toxicity share theirs, as
    `heads`. `judge` is the LLM judge with its counts, or None. `given_up` has the reason for each own scorer that is no
    longer called.

    :param tokenizer_folder: the folder of the base model, with its tokenizer.json.
    :param interval_rows: rows of the whole interval, of which the judge is shown a sample; None: its first rows.
    :param storage: where judgements are kept and found; None: nowhere.
    :raises BadInput: the folder has no tokenizer, or an own scorer cannot be loaded.
    :raises BadEnvironment: the embedder's network does not load.
    """

    def __init__(
        self,
        application: Application,
        tokenizer_folder: Path,
        *,
        interval_rows: int | None = None,
        storage: str | None = None,
    ) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.given_up: dict[str, str] = {}
        settings = application.judge
        self.judge = LlmJudge(settings, kept_judgements(application, storage)) if settings else None
        self._judged_rows = settings.rows_per_night if settings else 0  # that are left
        self._judged_share = self._judged_rows / max(interval_rows or self._judged_rows, 1)
        self._heads = Heads(application.scoring.precision)
        self._seen_rows = 0  # by the judge's sample
        self._format, self._prompt = application.inference.response_format, application.prompt
        self._measures = TextMeasures(tokenizer_folder / "tokenizer.json")
        self._sentiment = Sentiment()
        self._own = load_own_scorers(application.scorers, project_folder()) if application.scorers else {}

    def score(  # noqa: PLR0917
        self,
        prompts: list[str],
        responses: list[str],
        contexts: list[str | None],
        references: list[str | None],
        finish_reasons: list[str | None],
        metadata: Sequence[Mapping[str, str] | list[tuple[str, str]]] = (),
        conversations: Sequence[Messages] = (),
    ) -> dict[str, list[Any]]:
        """Return every score as a column: one value for each row, None if it has none.

        The column `unscored` maps each score of a row to the reason (Unscored) why it is missing, or None. A number that is
        not finite counts as a failure of its scorer. All lists are of equal length. Equal texts are scored once.

        :param metadata: of each row, for own scorers; empty: none.
        :param conversations: the `messages` of each row, for own scorers and the judge; empty: only the prompts.
        """
        columns = self.score_without_judge(
            prompts, responses, contexts, references, finish_reasons, metadata, conversations
        )
        return self.with_judge(columns, prompts, responses, contexts, references, conversations, metadata)

    def score_without_judge(  # noqa: PLR0917
        self,
        prompts: list[str],
        responses: list[str],
        contexts: list[str | None],
        references: list[str | None],
        finish_reasons: list[str | None],
        metadata: Sequence[Mapping[str, str] | list[tuple[str, str]]] = (),
        conversations: Sequence[Messages] = (),
    ) -> dict[str, list[Any]]:
        """Return every score except the judge's, as :meth:`score` does; they depend on these rows alone.

        In `unscored`, no row is sampled for the judge.
        """
        measures = self._measures
        columns: dict[str, list[Any]] = {
            "prompt_characters": [len(prompt) for prompt in prompts],
            "response_characters": [len(response) for response in responses],
        }
        with self._timed("tokens"):
            columns["prompt_tokens"] = _batch(measures.tokens, prompts)
            columns["response_tokens"] = _batch(measures.tokens, responses)
        with self._timed("language"):
            columns["prompt_language"] = _each(measures.language, prompts)
            columns["response_language"] = _each(lambda text: response_language(text, measures), responses)
        with self._timed("valid"):
            finished = list(zip(responses, finish_reasons, strict=True))
            columns["valid"] = _each(lambda pair: float(is_valid(*pair, self._format)), finished)
        languages = list(map(language_of, columns["response_language"], columns["prompt_language"]))
        with self._timed("heads"):
            both = _known(heads.LANGUAGES, languages, lambda texts: _batch(self._heads.score, texts), responses)
            columns["refusal"], columns["toxicity"] = (
                [scores[head] if scores else None for scores in both] for head in (0, 1)
            )
        with self._timed("sentiment"):
            columns["sentiment"] = _known(
                sentiment.LANGUAGES, languages, lambda texts: _each(self._sentiment.score, texts), responses
            )
        with self._timed("pii"):
            columns["pii"] = _each(_personal_data, responses)
        with self._timed("groundedness"):
            readable = self._in_their_language(contexts, languages)
            columns["groundedness"] = _each(_if_given(groundedness), list(zip(responses, readable, strict=True)))
        pairs = list(zip(responses, references, strict=True))
        with self._timed("exact_match"):
            columns["exact_match"] = _each(_if_given(exact_match), pairs)
        with self._timed("rouge_l"):
            columns["rouge_l"] = _each(_if_given(rouge_l), pairs)
        columns[UNSCORED] = _reasons(columns, len(responses))
        if self._own:
            metadata = metadata or [{}] * len(responses)
            asked = self._asked(prompts, conversations, metadata)
            self._add_own(columns, (prompts, responses, contexts, references, metadata, languages, asked))
        return columns

    def with_judge(  # noqa: PLR0917
        self,
        columns: dict[str, list[Any]],
        prompts: list[str],
        responses: list[str],
        contexts: list[str | None],
        references: list[str | None],
        conversations: Sequence[Messages] = (),
        metadata: Sequence[Metadata] = (),
    ) -> dict[str, list[Any]]:
        """Return the columns of :meth:`score_without_judge` with the judge's scores and reasons for its sample.

        Rows are sampled by their number: an interval's rows must come in order, all of them to one object.
        """
        with self._timed("judge"):
            asked = self._asked(prompts, conversations, metadata) if self.judge else [[]] * len(prompts)
            judgements = self._judgements(list(map(question_of, asked, prompts, responses, contexts, references)))
        judged = [judgements.get(row) for row in range(len(prompts))]
        reasons = [
            None if judgement else Unscored.FAILED if row in judgements else Unscored.NOT_SAMPLED
            for row, judgement in enumerate(judged)
        ]
        unscored = [row | {"judge": reason} for row, reason in zip(columns[UNSCORED], reasons, strict=True)]
        return columns | {
            "judge": [judgement.score if judgement else None for judgement in judged],
            JUDGE_REASON: [judgement.reason or None if judgement else None for judgement in judged],
            UNSCORED: unscored,
        }

    def _add_own(self, columns: dict[str, list[Any]], lists: Sequence[Sequence[Any]]) -> None:
        """Add the values of own scorers, and the reasons why rows have none."""
        rows = [dict(zip(OWN_SCORERS_SEE, row, strict=True)) for row in zip(*lists, strict=True)]
        for name, scorer in self._own.items():
            with self._timed(name):
                columns[name], reasons = scorer.score(rows)
            if scorer.given_up:
                self.given_up[name] = scorer.given_up
            for row, reason in zip(columns[UNSCORED], reasons, strict=True):
                row[name] = reason

    @contextmanager
    def _timed(self, scorer: str) -> Iterator[None]:
        start = time.process_time()
        try:
            yield
        finally:
            self.seconds[scorer] += time.process_time() - start

    def _asked(
        self, prompts: Sequence[str], conversations: Sequence[Messages], metadata: Sequence[Metadata]
    ) -> list[Messages]:
        """The input of each response: the effective system message, then the turns up to the prompt."""
        asked: list[Messages] = []
        none: list[Any] = [[]] * len(prompts)
        for prompt, messages, of_row in zip(prompts, conversations or none, metadata or none, strict=True):
            turns = [*messages] or [{"role": "user", "content": prompt}]
            own = turns.pop(0)["content"] if turns[0]["role"] == "system" else None
            if turns[-1]["role"] == "assistant":
                turns.pop()
            asked.append([*self._prompt.system_messages(own, of_row), *turns])
        return asked

    def _judgements(self, rows: list[Question]) -> dict[int, Judgement | None]:
        """The judgements of sampled rows, by their index here; None if the judge failed. Equal rows are judged once.

        The sample of an interval does not depend on the model that answered it.
        """
        if self.judge is None:
            return {}
        drawn = [at for at in range(len(rows)) if _fraction(str(self._seen_rows + at)) < self._judged_share]
        self._seen_rows += len(rows)
        chosen = list(dict.fromkeys(rows[at] for at in drawn))[: self._judged_rows]
        self._judged_rows -= len(chosen)
        judged = dict(zip(chosen, self.judge.judge(chosen), strict=True))
        return {at: judged[rows[at]] for at in drawn if rows[at] in judged}

    def _in_their_language(self, contexts: Sequence[str | None], languages: Sequence[str]) -> list[str | None]:
        """The contexts, or None if in another language than their response."""
        spoken = _each(lambda context: self._measures.language(context) if context else UNDETERMINED, contexts)
        return [
            None if differ(language, other) else context
            for context, language, other in zip(contexts, languages, spoken, strict=True)
        ]


def kept_judgements(application: Application, storage: str | None) -> KeptJudgements | None:
    """Return the kept judgements of the application's judge (this model and rubric), after removing old ones."""
    judge = application.judged_by
    if storage is None or judge is None:
        return None
    kept = KeptJudgements(partition_of(storage, application.name, "judgements"), {key: judge[key] for key in OPINION})
    kept.remove_old()
    return kept


def _reasons(columns: dict[str, list[Any]], rows: int) -> list[dict[str, Unscored | None]]:
    """Replace numbers that are not finite by None, and return why each row lacks each score."""
    reasons: dict[str, list[Unscored | None]] = {}
    for score in SCORES:
        values = columns.get(score, [None] * rows)
        lacks = NOT_FOR_EVERY_ROW.get(score, Unscored.FAILED)
        broken = [value is not None and not math.isfinite(value) for value in values]
        reasons[score] = [
            Unscored.FAILED if failed else lacks if value is None else None
            for value, failed in zip(values, broken, strict=True)
        ]
        if score in columns:
            columns[score] = [None if failed else value for value, failed in zip(values, broken, strict=True)]
        if failures := reasons[score].count(Unscored.FAILED):
            log.warning("the scorer of %s gave no number for %s of %s rows", score, failures, rows)
    return [dict(zip(SCORES, row, strict=True)) for row in zip(*reasons.values(), strict=True)]


def _known(
    known: frozenset[str],
    languages: Sequence[str],
    score: Callable[[list[str]], list[Value]],
    texts: Sequence[str],
) -> list[Value | None]:
    """Score the texts in languages that the scorer knows; None for the others."""
    asked = [language in known for language in languages]
    scores = iter(score([text for text, is_asked in zip(texts, asked, strict=True) if is_asked]))
    return [next(scores) if is_asked else None for is_asked in asked]


def _each(score: Callable[[Key], Value], rows: Sequence[Key]) -> list[Value]:
    """Score each row; equal rows once."""
    scores = {row: score(row) for row in dict.fromkeys(rows)}
    return [scores[row] for row in rows]


def _batch(score: Callable[[list[str]], Sequence[Value]], texts: Sequence[str]) -> list[Value]:
    """Score all texts in one call; equal texts once."""
    different = list(dict.fromkeys(texts))
    scores = dict(zip(different, score(different), strict=True))
    return [scores[text] for text in texts]


def _fraction(text: str) -> float:
    """A uniformly distributed number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


def _if_given(score: Callable[[str, str], float | None]) -> Callable[[tuple[str, str | None]], float | None]:
    return lambda pair: None if pair[1] is None else score(pair[0], pair[1])


def _personal_data(response: str) -> float:
    found: Counter[str] = Counter()
    redact(response, ORDER, found)
    return float(found.total())
