"""What people say of answers: where their thumbs, ratings, corrections and preferences lie."""

from __future__ import annotations

import math
from typing import Self

from pydantic import Field, model_validator

from nightshift.settings.fields import Model, omit_default
from nightshift.settings.intake import Columns, Source

NOT_OF_FEEDBACK = ("messages", "tools", "split_group", "response", "context")
ASSESSMENTS = "assessments."  # columns of an experiment's traces that start so are assessments, by their names


class FeedbackColumns(Columns):
    """Which columns of a source hold what. `id` or `prompt` tells which interaction a row is about, `subject` who judged.

    `answer` is what the answer should have been. Where `rejected` is mapped each row is a pair, and `answer` was chosen.
    """

    thumb: str | None = Field(None, description="column with up or down: up/down, true/false or 1/-1")
    rating: str | None = Field(None, description="column with a number on the source's `scale`")

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Self:
        if wrong := [name for name in NOT_OF_FEEDBACK if getattr(self, name) is not None]:
            raise ValueError(f"feedback has no `{wrong[0]}`; `id` or `prompt` tells which interaction it is about")
        if not (self.id or self.prompt):
            raise ValueError("give `id`, that of the interaction, or `prompt`")
        if self.input and not self.prompt:
            raise ValueError("`input` follows a `prompt`; leave it out")
        if not (self.thumb or self.rating or self.answer):
            raise ValueError("give `thumb`, `rating` or `answer`")
        if self.rejected and not self.answer:
            raise ValueError("`rejected` stands beside `answer`, which was chosen")
        if self.subject and self.subject in {self.id, *self.metadata}:
            raise ValueError(
                f"`subject` is kept as a keyed hash only; leave {self.subject!r} out of `id` and `metadata`"
            )
        return self


class FeedbackSource(Source):
    """A source of feedback; a row is one judgement of one answer."""

    experiment: str | None = omit_default(
        None, description="in place of `uri` or `query`: MLflow experiment whose traces people assessed"
    )
    columns: FeedbackColumns = Field(description="column mapping")
    scale: tuple[float, float] = Field((1, 5), description="worst and best rating; kept as 0 to 1")

    @property
    def assessments(self) -> list[str]:
        """The names of the assessments that are mapped, each once."""
        columns = self.columns
        mapped = (columns.thumb, columns.rating, columns.answer, *columns.metadata)
        return list(
            dict.fromkeys(name.removeprefix(ASSESSMENTS) for name in mapped if name and name.startswith(ASSESSMENTS))
        )

    def require_place(self) -> None:
        if self.experiment is None:
            return super().require_place()
        if wrong := [name for name in ("uri", "query", "connection", "format", "layout") if getattr(self, name)]:
            raise ValueError(f"`experiment` stands in place of files and queries; leave `{wrong[0]}` out")
        says = (self.columns.thumb, self.columns.rating, self.columns.answer)
        if not any(name and name.startswith(ASSESSMENTS) for name in says):
            raise ValueError(f"map `thumb`, `rating` or `answer` to an assessment: `{ASSESSMENTS}<name>`")
        if (self.columns.rejected or "").startswith(ASSESSMENTS):
            raise ValueError("`rejected` is no assessment: nobody assesses a trace by an answer that is worse")
        if wrong := [name for name in self.assessments if "`" in name]:
            raise ValueError(f"MLflow finds no assessment by a name with a backtick: {wrong[0]}")
        return None

    @model_validator(mode="after")
    def _has_two_ends(self) -> Self:
        worst, best = self.scale
        if worst == best or not math.isfinite(best - worst):
            raise ValueError(
                f"scale: the worst and the best rating must differ and be finite, not {worst:g} and {best:g}"
            )
        return self


REVIEW = "review"  # name of the source
CHOSEN_BY, RANDOM = "review:chosen", "random"  # key in the metadata of a review, and the stratum that chance chose
PAIR = "pair"  # in place of a stratum: chance chose it, among answers of two versions that differ
REVIEWED = "review:digest"  # key in the metadata of a review: the digest of what it is about
# What people say on the review page, as the job `feedback` reads it from a file that it makes; `key` is that of the sample.
REVIEWS = FeedbackSource(
    name=REVIEW,
    uri="reviews.jsonl",
    columns=FeedbackColumns(
        id="key", subject="by", timestamp="at", thumb="thumb", answer="correction",
        metadata=[CHOSEN_BY, REVIEWED, "review:reason"],
    ),
)  # fmt: skip
# Of two answers the one that somebody preferred, with the versions that gave them.
CHOICES = FeedbackSource(
    name=REVIEW,
    uri="choices.jsonl",
    columns=FeedbackColumns(
        id="key", subject="by", timestamp="at", answer="preferred", rejected="rejected",
        metadata=[CHOSEN_BY, REVIEWED, "review:reason", "review:preferred", "review:rejected"],
    ),
)  # fmt: skip


class Review(Model):
    """Which answers people are shown to judge."""

    rows: int = Field(
        20, ge=4, le=200, description="answers of each interval, and pairs of each shadow, that are put to people"
    )


class Feedback(Model):
    """What people say of answers."""

    sources: list[FeedbackSource] = Field([], description="where feedback comes from")
    review: Review | None = omit_default(
        None, description="answers that people are shown to judge, on the review page; null: none"
    )
    lookback_days: int = Field(
        7, ge=1, le=90, description="days before the end of an interval whose interactions its feedback may be about"
    )
    corrections: bool = omit_default(
        False, description="whether corrections and preferred answers become examples to train on and to judge by"
    )

    @property
    def every_source(self) -> list[FeedbackSource]:
        """All sources that the job `feedback` reads, that of the review page among them."""
        return [*self.sources, *([REVIEWS, CHOICES] if self.review else [])]

    @model_validator(mode="after")
    def _names_are_different(self) -> Self:
        if not self.every_source:
            raise ValueError("give `sources`, or `review`")
        if self.review and any(source.name == REVIEW for source in self.sources):
            raise ValueError(f"no source may be called `{REVIEW}`: that is the review page's; give it another `name`")
        if len({source.name for source in self.sources}) != len(self.sources):
            raise ValueError("two sources have the same name; give each a `name` of its own")
        return self

    def wrong_for(self, examples: list[Source], traffic: list[Source]) -> str | None:
        """Return why a source can name no interaction with the prompts of these sources; None where all can."""
        if self.corrections and not traffic:
            return "`corrections` needs `traffic.sources`: replayed examples are neither trained on nor judged by"
        for source in self.sources:
            if source.columns.id is None and not traffic:
                return f"source {source.name!r}: replayed examples are known by their ids alone; give `columns.id`"
            if source.columns.prompt is None and not any(asked.columns.id for asked in traffic or examples):
                return (
                    f"source {source.name!r}: no source of prompts has `columns.id`; give it one, or map `prompt` here"
                )
        return None
