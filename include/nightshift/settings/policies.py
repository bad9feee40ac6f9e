"""How an application's intervals are answered, measured and judged, and when that leads to a retraining."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from nightshift.settings.endpoint import Endpoint
from nightshift.settings.fields import Model, Share, omit_default
from nightshift.settings.serving import Vllm

Precision = Literal["float32", "bfloat16"]

MOST_IN_A_BATCH = 50_000  # of OpenAI and those who do as it does


class Inference(Model):
    """How the champion answers an interval's prompts."""

    engine: Literal["auto", "transformers", "vllm", "endpoint"] = Field(
        "auto",
        description="auto: the endpoint if one is given, else vLLM where it is installed and can run, else transformers",
    )
    endpoint: Endpoint | None = omit_default(
        None, description="the model of the application is one that somebody else runs"
    )
    max_new_tokens: int = Field(64, ge=1, le=32_768, description="longest response")
    batch_tokens: int = Field(
        16_384, ge=256, le=10_000_000, description="tokens (prompts and responses) of one batch: bounds its memory"
    )
    rows_per_part: int = Field(
        500, ge=1, le=1_000_000, description="prompts answered between two savings: a kill costs at most these"
    )
    shards: int = Field(1, ge=1, le=256, description="tasks that share the prompts of an interval")
    response_format: Literal["text", "line", "json"] = Field("text", description="what counts as a valid response")
    vllm: Vllm = omit_default(Vllm(), description="how vLLM uses the machine")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.engine == "endpoint" and self.endpoint is None:
            raise ValueError("engine: endpoint needs `endpoint`, with its url and model")
        if self.vllm.adapters and self.engine != "vllm":
            raise ValueError(f"vllm.adapters: only vLLM serves adapters; set engine: vllm, not {self.engine}")
        if self.endpoint and self.endpoint.batch and self.rows_per_part > MOST_IN_A_BATCH:
            raise ValueError(
                f"rows_per_part: a part is a batch of endpoint.batch, which takes {MOST_IN_A_BATCH:,} requests at most"
            )
        return self

    @property
    def hosted(self) -> Endpoint | None:
        """The endpoint that the application's model is at; None where models are trained and run here."""
        return self.endpoint if self.engine in {"auto", "endpoint"} else None


class Scoring(Model):
    """How refusal and toxicity are computed."""

    precision: Precision = Field(
        "float32",
        description="of their network; bfloat16 is several times as fast on processors with AMX, and moves scores a little",
    )


class Drift(Model):
    """When an interval counts as drifted.

    A metric is WARN or FAIL when its effect size, less what chance alone gives at the interval's number of rows, reaches
    the floor, and chance alone is improbable over all metrics together.
    """

    min_rows: int = Field(100, ge=20, description="fewer rows than this: INSUFFICIENT_DATA")
    warn: float = Field(0.1, gt=0, description="effect size from which a metric is WARN")
    fail: float = Field(0.2, gt=0, description="effect size from which a metric is FAIL")
    metrics: dict[str, float] = Field(
        {}, description="another `fail` floor for single metrics, also of own scorers; 0 ignores a metric"
    )
    significance: float = Field(
        0.01, gt=0, le=0.2, description="false discovery rate over all metrics of an interval (Benjamini-Hochberg)"
    )
    trailing_nights: int = Field(28, ge=0, le=365, description="earlier intervals that each is also compared with")

    @model_validator(mode="after")
    def _warn_comes_first(self) -> Self:
        if self.warn > self.fail:
            raise ValueError(f"warn ({self.warn:g}) is above fail ({self.fail:g})")
        return self


class Bias(Model):
    """What the nightly bias report asks and tolerates. The counts are the same for every interval."""

    min_group: int = Field(30, ge=5, description="groups with fewer rows are INSUFFICIENT_DATA")
    max_gap: Share = Field(0.1, description="accepted difference between groups in a score (0 to 1)")
    counterfactual_pairs: int = Field(30, ge=0, le=10_000, description="messages asked with swapped names or groups")
    stereotype_pairs: int = Field(48, ge=0, le=1508, description="CrowS-Pairs sentences compared by likelihood")
    questions: int = Field(64, ge=0, le=10_000, description="BBQ questions")
    metrics: list[str] = omit_default(
        [],
        max_length=50,
        description="own scorers (shares, numbers with `min` and `max`) that groups are compared by, too",
    )
    full_weekday: int | None = Field(
        6, ge=0, le=6, description="day of the week (0: Monday) with all pairs and questions; null: never"
    )


class Retraining(Model):
    """When drift leads to a retraining. Every bound must allow it."""

    nights: int = Field(2, ge=1, le=60, description="intervals that must FAIL …")
    of_nights: int = Field(3, ge=1, le=60, description="… of so many latest intervals with a verdict")
    on: list[Literal["drift", "bias"]] = Field(["drift"], min_length=1, description="whose verdicts count")
    min_new_examples: int = Field(100, ge=0, description="training examples that the champion has not seen")
    cooldown_days: float = Field(3, ge=0, le=365, description="days after a retraining in which there is no other")
    max_a_week: int = Field(2, ge=0, le=100, description="retrainings in seven days")
    max_hours_a_week: float = Field(24, ge=0, description="hours of training in seven days, over all processes")
    max_refused: int = Field(
        3, ge=1, le=100, description="candidates in a row that the gate refused; then a person has to force the next"
    )
    lost_after_hours: float = Field(
        48,
        gt=0,
        le=8760,
        description="a retraining without an outcome for so long is given up, unless a run of finetune may still train for it",
    )

    @model_validator(mode="after")
    def _some_of_more(self) -> Self:
        if self.nights > self.of_nights:
            raise ValueError(f"nights ({self.nights}) is above of_nights ({self.of_nights})")
        return self
