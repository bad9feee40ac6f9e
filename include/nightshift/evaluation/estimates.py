"""The types of measured numbers: metrics, estimates with intervals, and comparisons of models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class Metric:
    """A metric of an evaluation.

    :param kind: `share` is between 0 and 1 and shown in percent; `nats` has three decimals; `amount` is a count or cost.
    """

    title: str
    kind: Literal["share", "nats", "amount"] = "share"
    lower_is_better: bool = False

    def shown(self, value: float, sign: str = "") -> str:
        """Return a value for people; `sign` "+" also marks gains.

        Very large values, as the perplexity of a broken model, are shown in scientific notation.
        """
        number = 100 * value if self.kind == "share" else value
        digits = 3 if self.kind == "nats" else 1
        form = ".2e" if abs(number) >= 1_000_000 else ",.0f" if abs(number) >= 1000 else f",.{digits}f"
        if self.kind == "amount" and 0 < abs(number) < 0.1:  # the cost of an answer
            form = ".2g"
        return f"{number:{sign}{form}}"


PREFERENCE = "preference_accuracy"  # how often the chosen answer of a pair is the likelier one
METRICS = {
    "exact_match": Metric("exact match"),
    "rouge_l": Metric("ROUGE-L"),
    "chrf": Metric("chrF"),
    "bleu": Metric("BLEU"),
    "loss": Metric("loss", "nats", lower_is_better=True),
    "perplexity": Metric("perplexity", "nats", lower_is_better=True),
    "similarity": Metric("similarity"),
    "judge": Metric("judge's score"),
    "win_rate": Metric("win rate"),
    PREFERENCE: Metric("preference accuracy"),
    "retrieval_recall": Metric("recall of documents"),
    "retrieval_mrr": Metric("MRR of documents"),
    "retrieval_ndcg": Metric("nDCG of documents"),
    "context_precision": Metric("context precision"),
    "groundedness": Metric("groundedness"),
    "citing": Metric("share that cites"),
    "citations_existing": Metric("citations that exist"),
    "citations_relevant": Metric("citations that are relevant"),
    "valid": Metric("valid share"),
    "finished": Metric("finished share"),
    "in_time": Metric("share in time"),
    "cost_headroom": Metric("cost headroom"),
    "token_headroom": Metric("token headroom"),
    "tokens": Metric("tokens an answer", "amount", lower_is_better=True),
    "latency_ms": Metric("milliseconds an answer", "amount", lower_is_better=True),
    "cost": Metric("cost an answer", "amount", lower_is_better=True),
    "context_words": Metric("words of passages a question", "amount", lower_is_better=True),
}


def metric_of(name: str) -> Metric:
    """Return a metric by name; one of an own scorer is shown as a number."""
    return METRICS.get(name) or Metric(name.replace("_", " "), "nats")


class Estimate(BaseModel):
    """A number with its 95 % interval. An infinite loss, of a diverged model, is a string in JSON."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    value: float
    low: float
    high: float


Scores = dict[str, Estimate]  # by metric


class Comparison(BaseModel):
    """Scores by role, and differences candidate minus other by the other's role.

    :param pairs: number of examples that were compared as preference pairs.
    :param with_documents: number of examples whose relevant documents are known.
    """

    examples: int
    pairs: int = 0
    with_documents: int = 0
    scores: dict[str, Scores]
    differences: dict[str, Scores]
