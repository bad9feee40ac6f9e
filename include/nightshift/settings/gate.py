"""What a candidate must show before it may become the champion."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from nightshift.settings.fields import Model, Name, Share, omit_default

Decisive = Literal["exact_match", "rouge_l", "chrf"]
# Below these a model is good for nothing, whatever it is better than: answers in words of their own score less in shared words.
LOWEST: dict[Decisive, float] = {"exact_match": 0.5, "rouge_l": 0.2, "chrf": 0.3}

# Of the passages that a model was given, where the relevant documents are known.
RETRIEVAL = ("retrieval_recall", "retrieval_mrr", "retrieval_ndcg")
MEASURED = (
    *("exact_match", "rouge_l", "chrf", "bleu", "loss", "perplexity", "similarity", "valid", "finished"),
    *("tokens", "latency_ms", "cost", "judge", "win_rate", "preference_accuracy", *RETRIEVAL),
)


class Condition(Model):
    """One more bound on a number of the evaluation; it must hold with the number's whole 95 % interval."""

    metric: Name = Field(
        description="a score, the share of answers that are `valid` or `finished`, a mean over answers, an own scorer, "
        "how often the chosen answer of a preference pair is the likelier one (`preference_accuracy`), how many of the "
        "known documents are retrieved (`retrieval_recall`, `retrieval_mrr`, `retrieval_ndcg`), or what "
        "a judge says: its score (`judge`), or the `win_rate` against the champion (without one the base model)"
    )
    against: Literal["base", "champion"] | None = Field(
        None,
        description="bounds the candidate's value minus this model's, on the same examples; null: the candidate's value",
    )
    slice: Literal["all", "known", "new"] = Field(
        "all",
        description="held-out examples: those the champion was judged on (`known`), those that came after it (`new`), all",
    )
    suite: Name | None = Field(
        None, description="examples of this one of `evaluation.suites`, in place of held-out ones"
    )
    at_least: float | None = Field(None, description="lowest accepted value; below 0 with `against`: a margin")
    at_most: float | None = Field(None, description="highest accepted value; one of the two bounds is given")
    min_examples: int | None = Field(
        None,
        ge=1,
        description="fewer examples in the slice or suite: INSUFFICIENT_DATA; null: the gate's, 1 of a suite",
    )

    @model_validator(mode="after")
    def _is_one_bound_on_one_number(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give either at_least or at_most")
        if self.suite and self.slice != "all":
            raise ValueError("a suite has no slices; leave `slice` out")
        if self.metric == "win_rate" and self.against:
            raise ValueError("a win rate is against the champion, or without one the base model; leave `against` out")
        return self

    def wrong_for(self, metrics: Sequence[str], suites: Collection[str], *, judged: bool, relevant: bool) -> str | None:
        """Return why an application cannot measure it; None where it can.

        :param judged: whether it has a judge.
        :param relevant: whether it knows the documents that answer its rows.
        """
        if self.metric not in metrics:
            return f"there is no metric {self.metric!r} that is a number ({', '.join(metrics)})"
        if self.metric in {"judge", "win_rate"} and not judged:
            return f"{self.metric} is what a judge says; there is no `judge` here"
        if self.metric in RETRIEVAL and not relevant:
            return f"{self.metric} needs `retrieval.relevant`"
        if self.suite and self.suite not in suites:
            known = ", ".join(sorted(suites)) or "none"
            return f"there is no suite {self.suite!r} in evaluation.suites ({known})"
        return None


class Gate(Model):
    """What a candidate must show. Intervals are 95 % bootstrap intervals over the held-out examples."""

    metric: Decisive = Field("exact_match", description="the score that decides")
    min_examples: int = Field(50, ge=1, description="fewer judged examples than this: INSUFFICIENT_DATA")
    min_score: Share | None = Field(
        None,
        description="lowest accepted score of the candidate; null: 0.5 of exact match, 0.2 of ROUGE-L, 0.3 of chrF",
    )
    min_gain_over_base: Share = Field(0.02, description="the candidate beats its base model by at least this much")
    max_loss_to_champion: Share = Field(
        0.02, description="the candidate may be worse than the champion by this much on what the champion was judged on"
    )
    min_gain_on_new: Share = Field(
        0.0, description="the candidate beats the champion by at least this much on examples that came after it"
    )
    conditions: list[Condition] = omit_default([], max_length=50, description="further bounds, all of which must hold")

    @property
    def lowest_score(self) -> float:
        """The lowest accepted score of the candidate."""
        return LOWEST[self.metric] if self.min_score is None else self.min_score

    @property
    def metrics(self) -> set[str]:
        """All metrics that are bounded."""
        return {self.metric, *(condition.metric for condition in self.conditions)}
