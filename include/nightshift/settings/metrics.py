"""What is measured of each interval: names with their groups and labels, for profiles, verdicts, policies, alerts and pages."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic_core import core_schema

Group = Literal["inputs", "outputs", "scores", "quality"]

# A reference whose scores hardly differ must not make a trifle look large. With a hundredth of the answers invalid, where
# all were valid, the effect is 0.1.
SMALLEST_SCORE_DEVIATION = 0.1


class Metric(str):
    """A measured column, equal to its name: one of `BUILT_IN`, or that of a team's own scorer (scorers.py).

    Where an interactions partition has a column of this name, it is that column.

    :param group: where a person looks for it, and which kind of drift its moves are (monitoring/drift_kinds.py).
    :param label: as a person reads it; "": the name with spaces.
    :param categorical: its values are names, not numbers.
    :param smallest_deviation: what the reference's standard deviation counts as at least, when effects are in units of it.
    """

    __slots__ = ("categorical", "group", "label", "smallest_deviation")
    group: Group
    label: str
    categorical: bool
    smallest_deviation: float

    PROMPT_CHARACTERS: ClassVar[Metric]
    PROMPT_TOKENS: ClassVar[Metric]
    PROMPT_LANGUAGE: ClassVar[Metric]
    PROMPT_TOPIC: ClassVar[Metric]  # of the reference's topics, the nearest
    PROMPT_NOVELTY: ClassVar[Metric]  # distance to that topic's centre: 0 (the same) to 2
    PROMPT_EMBEDDING: ClassVar[Metric]  # all directions of the embedding space
    RETRIEVAL_RELEVANCE: ClassVar[Metric]  # of the best passage that was found; 0: none was
    RESPONSE_CHARACTERS: ClassVar[Metric]
    RESPONSE_TOKENS: ClassVar[Metric]
    RESPONSE_LANGUAGE: ClassVar[Metric]
    FINISH_REASON: ClassVar[Metric]
    VALID: ClassVar[Metric]  # 0 or 1: the response has the format that the application asks for
    REFUSAL: ClassVar[Metric]  # probability, 0 to 1, of English responses
    TOXICITY: ClassVar[Metric]  # probability, 0 to 1, of English responses
    SENTIMENT: ClassVar[Metric]  # -1 to 1, of English responses
    PII: ClassVar[Metric]  # items of personal data in the response
    GROUNDEDNESS: ClassVar[Metric]  # share of the response's content words that the context has, 0 to 1
    JUDGE: ClassVar[Metric]  # an LLM judge's score, 0 to 1
    EXACT_MATCH: ClassVar[Metric]  # 0 or 1, where a reference answer is known
    ROUGE_L: ClassVar[Metric]  # 0 to 1, where a reference answer is known
    BAD_FEEDBACK: ClassVar[Metric]  # 0 or 1, of an answer that people judged (data/feedback.py)
    MEAN_RATING: ClassVar[Metric]  # 0 (worst) to 1, of an answer that people rated

    def __new__(
        cls,
        name: str,
        group: Group = "scores",
        label: str = "",
        *,
        categorical: bool = False,
        smallest_deviation: float = 0.0,
    ) -> Metric:
        metric = super().__new__(cls, name)
        metric.group = group
        metric.label = label or name.replace("_", " ")
        metric.categorical = categorical
        metric.smallest_deviation = smallest_deviation
        return metric

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(cls._of_name)

    @classmethod
    def _of_name(cls, value: Any) -> Metric:
        """A metric that was stored by its name; of an own one, only its application's file knows the group and label."""
        if isinstance(value, Metric):
            return value
        if not isinstance(value, str):
            raise ValueError("is no name of a metric")  # noqa: TRY004  (pydantic reports ValueErrors)
        return next((metric for metric in BUILT_IN if metric == value), cls(value))


def _score(name: str, group: Group = "scores", label: str = "") -> Metric:
    return Metric(name, group, label, smallest_deviation=SMALLEST_SCORE_DEVIATION)


BUILT_IN = (
    Metric("prompt_characters", "inputs"),
    Metric("prompt_tokens", "inputs"),
    Metric("prompt_language", "inputs", categorical=True),
    Metric("prompt_topic", "inputs", categorical=True),
    Metric("prompt_novelty", "inputs"),
    Metric("prompt_embedding", "inputs"),
    Metric("retrieval_relevance", "inputs"),
    Metric("response_characters", "outputs"),
    Metric("response_tokens", "outputs"),
    Metric("response_language", "outputs", categorical=True),
    Metric("finish_reason", "outputs", categorical=True),
    _score("valid"),
    _score("refusal"),
    _score("toxicity"),
    _score("sentiment"),
    _score("pii", label="PII items"),
    _score("groundedness"),
    _score("judge", "quality"),
    _score("exact_match", "quality"),
    _score("rouge_l", "quality", "ROUGE-L"),
    Metric("bad_feedback", "quality"),
    Metric("mean_rating", "quality"),
)
for _metric in BUILT_IN:
    setattr(Metric, _metric.upper(), _metric)


class DriftKind(StrEnum):
    """What changed: the inputs, the outputs, or the quality of outputs while the inputs did not (monitoring/drift_kinds.py)."""

    DATA = "data drift"
    OUTPUT = "output drift"
    CONCEPT = "concept drift"


FEEDBACK = (Metric.BAD_FEEDBACK, Metric.MEAN_RATING)  # references do not have them: they are compared with fixed floors
LABELS = {
    "logprob": "log-probability (nats)",
    "chrf": "chrF",
    "bleu": "BLEU",
}  # of columns that are no metric of the interval
CATEGORICAL = frozenset(metric for metric in BUILT_IN if metric.categorical)


def label_of(name: str, own: Iterable[Metric] = ()) -> str:
    """Return what people call a metric, one of an own scorer as its application says; of a bias measure its name in words."""
    known = (metric.label for metric in (*BUILT_IN, *own) if metric == name)
    return next(known, LABELS.get(name, name.replace("_", " ")))
