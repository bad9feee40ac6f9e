"""What one application is: the typed form of `apps/<name>.yaml`.

Every field has a bound, a description and, where a sensible one exists, a default, so that an application of
a dozen lines is complete. Reading the files, and saying what is wrong with them, is `applications.py`.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema, field_validator, model_validator

from nightshift.settings.clock import Clock, Look, TimeZone
from nightshift.settings.decoding import Decoding
from nightshift.settings.evaluation import Evaluation
from nightshift.settings.feedback import Feedback
from nightshift.settings.fields import Model, Name, omit_default
from nightshift.settings.gate import MEASURED, Gate
from nightshift.settings.guard_rails import VALID, GuardRails
from nightshift.settings.intake import Ingest, Source, Traffic, Validation
from nightshift.settings.interval import Interval
from nightshift.settings.job_names import JOBS
from nightshift.settings.judging import SHOWN, Judge
from nightshift.settings.metrics import Metric
from nightshift.settings.people import Alerts, Approval, Budget
from nightshift.settings.pinned_index import PinnedIndex
from nightshift.settings.policies import Bias, Drift, Inference, Retraining, Scoring
from nightshift.settings.pools import Pools
from nightshift.settings.prompt import Prompt
from nightshift.settings.retrieval import Embedder, Retrieval
from nightshift.settings.schedule import Schedule, interval_meant, next_end, shown_twice
from nightshift.settings.scorers import Scorers, wrong_names
from nightshift.settings.search import Search
from nightshift.settings.shadow import Shadow
from nightshift.settings.split import Split
from nightshift.settings.training import TrainingSettings
from nightshift.settings.watch import Watch

SAMPLES = 4  # answers to one example, where they are drawn and nobody says how many
COMPUTE_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}]}


def _for_every_job(value: Any) -> Any:
    return {"default": value} if isinstance(value, str) else value


class Application(Model):
    """One generative-AI application whose model is kept good."""

    name: Name = Field(description="taken from the file's name")
    description: str = Field("", max_length=500, description="one sentence for the people who watch it")
    owner: str = Field(
        "nightshift", pattern=r"^[\w .@-]+$", max_length=80, description="team that is asked when something is wrong"
    )
    base_model: str = Field(
        "smollm2-135m-instruct",
        min_length=1,
        description="`smollm2-135m-instruct`, a Hugging Face id, a local path, or a URI (s3://, gs://, abfs://)",
    )
    schedule: Schedule | None = Field(
        "@daily",
        description="when an interval ends, is ingested and answered: a cron expression or preset; null: by hand only",
    )
    timezone: TimeZone = Field(
        "UTC",
        description="time zone, as Europe/Berlin, of `schedule`, `retrain`, `clock`, and of days and times in forms",
    )
    clock: Clock = Field(Clock(), description="when DAGs look without an event, and when an interval counts as missing")
    start: date = Field(date(2026, 1, 1), description="first day with data")
    end: date | None = Field(None, description="last day with data; empty: it goes on")
    catch_up: bool = Field(True, description="ingest the days since `start` that were missed, once ingest is unpaused")
    retrain: Schedule | None = Field(
        None,
        description="when finetune also runs without an order: a cron expression or preset; null: for orders and by hand only",
    )
    compute: Annotated[dict[Name, Name], BeforeValidator(_for_every_job), WithJsonSchema(COMPUTE_SCHEMA)] = Field(
        {"default": "local"},
        description="compute profile, a file in compute/: one for all jobs, or `default` and those of single jobs",
    )
    pools: Pools = Field(Pools(), description="Airflow pools in which its jobs wait for a slot")
    priority: int = Field(
        1, ge=1, le=1000, description="weight against other applications for the slots of a pool: the higher goes first"
    )
    sources: list[Source] = Field(min_length=1, description="where rows come from")
    prompt: Prompt = Field(Prompt(), description="how the application speaks to its model")
    ingest: Ingest = Field(Ingest(), description="how raw rows become examples")
    validation: Validation = Field(Validation(), description="what a partition must look like")
    training: TrainingSettings = Field(TrainingSettings(), description="how a candidate is trained")
    evaluation: Evaluation = Field(Evaluation(), description="how models are compared")
    gate: Gate = Field(Gate(), description="what a candidate must show")
    shadow: Shadow | None = omit_default(
        Shadow(), description="how a candidate is compared with the champion on logged prompts; null: not at all"
    )
    watch: Watch | None = omit_default(
        Watch(), description="how a released version is watched in its first intervals; null: not at all"
    )
    split: Split | None = omit_default(None, description="how a release grows share by share; null: all at once")
    traffic: Traffic = Field(Traffic(), description="what users ask in production")
    feedback: Feedback | None = omit_default(None, description="what people say of answers; null: nobody is asked")
    inference: Inference = Field(Inference(), description="how the champion answers an interval's prompts")
    decoding: Decoding = omit_default(
        Decoding(), description="how an answer is chosen from what the model finds likely"
    )
    search: Search | None = omit_default(
        None, description="prompts, examples, decoding settings and retrieval that are tried; null: none are"
    )
    retrieval: Retrieval | None = omit_default(None, description="documents whose passages answers rest on; null: none")
    judge: Judge | None = Field(None, description="a language model that scores a sample of each interval's responses")
    scoring: Scoring = omit_default(Scoring(), description="how our own scores are computed")
    scorers: Scorers = Field({}, max_length=50, description="the team's own scorers, by the names of their metrics")
    drift: Drift = Field(Drift(), description="when an interval counts as drifted")
    bias: Bias = Field(Bias(), description="what the nightly bias report asks and tolerates")
    retraining: Retraining = Field(Retraining(), description="when drift leads to a retraining")
    approval: Approval = Field(Approval(), description="when a person decides about a release, and who")
    alerts: Alerts = Field(Alerts(), description="who is told of what")
    _index: PinnedIndex | None = None  # of a version, never of the file
    budget: Budget = Field(Budget(), description="what it may use; when that is spent, no retraining is ordered")

    @field_validator("compute")
    @classmethod
    def _is_for_jobs(cls, value: dict[str, str]) -> dict[str, str]:
        if unknown := sorted(set(value) - {*JOBS, "default"}):
            raise ValueError(f"there is no job {', '.join(unknown)}; there are default, {', '.join(JOBS)}")
        return {"default": "local", **value}

    def profile_of(self, job: str) -> str:
        """Return the name of the compute profile of a job."""
        return self.compute.get(job, self.compute["default"])

    def interval_of(self, typed: str) -> Interval:
        """Return the interval of the application's schedule that a day or a moment means, with the key of its scheduled run.

        :raises ValueError: it is no day and no moment, means several intervals, or one outside of `start` and `end`.
        """
        start, end = interval_meant(typed, self.schedule, self.zone)
        interval = Interval(start=start, end=end)
        if self.has_data(interval):
            return interval
        of = f"of `{self.schedule}` " if self.schedule else ""
        first = self.start
        if self.schedule:
            begin = next_end(
                self.schedule, datetime.combine(first, time(), self.zone) - timedelta(seconds=1), self.zone
            )
            first = begin.astimezone(self.zone).date()
        last = f", and the last on {self.end} or before (`end`)" if self.end else ""
        raise ValueError(f"{typed} means an interval {of}without data: the first begins {first}{last}")

    @property
    def own_metrics(self) -> list[Metric]:
        """The metrics of the team's own scorers."""
        return [scorer.metric(name) for name, scorer in self.scorers.items()]

    @property
    def scoring_inputs(self) -> dict[str, Any]:
        """The precision of scores, as an input of what is made with them; empty where it is the default."""
        return self.scoring.model_dump(exclude_defaults=True)

    @property
    def made_by_own_scorers(self) -> dict[str, Any]:
        """What determines the values of own scorers, as an input of what is made with them; empty without any."""
        return {"scorers": {name: scorer.made_by for name, scorer in self.scorers.items()}} if self.scorers else {}

    @property
    def answer_inputs(self) -> dict[str, Any]:
        """Decoding settings, index and unmerged adapter, as inputs of what is made of answers; those that are used."""
        inputs = {
            "decoding": self.decoding.model_dump(mode="json"),
            "retrieval": self._index and self._index.made_by,
            "adapters": self.inference.vllm.adapters,  # rounds otherwise than merged weights
        }
        return {name: settings for name, settings in inputs.items() if settings}

    @property
    def index(self) -> PinnedIndex | None:
        """The index that answers rest on, while a version answers that has one."""
        return self._index

    @property
    def embedding_endpoints(self) -> list[Embedder]:
        """The embedders at endpoints, of its indexes and of those that a search tries."""
        tried = self.search.choices.retrieval if self.search else []
        embedders = [one.embedder for one in (self.retrieval, *tried) if one and one.embedder]
        return [one for one in embedders if one.endpoint]

    def answering_from(self, index: PinnedIndex | None) -> Application:
        """Return the application as it is while a version with this index answers."""
        copy = self.model_copy()
        copy._index = index
        return copy

    @property
    def evaluated_tokens(self) -> int:
        """The longest answer of an evaluation, in tokens."""
        return self.evaluation.max_new_tokens or self.inference.max_new_tokens

    @property
    def evaluated_samples(self) -> int:
        """How many answers to each example an evaluation draws; one where nothing is drawn."""
        return (self.evaluation.samples or SAMPLES) if self.decoding.temperature else 1

    @property
    def judged_by(self) -> dict[str, Any] | None:
        """The judge as an input of what is made with its scores; None without one."""
        return self.judge.model_dump(mode="json", exclude={"price"}) | {"shown": SHOWN} if self.judge else None

    @property
    def zone(self) -> tzinfo:
        """The application's time zone."""
        return UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)

    def look(self, look: Look) -> str:
        """Return when a DAG looks although no event woke it: a cron expression in the application's time zone."""
        return self.clock.cron(look, self.name)

    def day_of(self, interval: Interval) -> date:
        """Return the day, in the application's time zone, on which an interval begins."""
        return interval.start.astimezone(self.zone).date()

    def has_data(self, interval: Interval) -> bool:
        """Whether an interval begins on a day from `start` to `end`, as those of scheduled runs do."""
        day = self.day_of(interval)
        return self.start <= day and (self.end is None or day <= self.end)

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        if self.end and self.end < self.start:
            raise ValueError(f"end {self.end} is before start {self.start}")
        if len({source.name for source in self.sources}) != len(self.sources):
            raise ValueError("two sources have the same name; give each a `name` of its own")
        return self

    @model_validator(mode="after")
    def _names_no_file_for_two_intervals(self) -> Self:
        if self.schedule is None or self.timezone == "UTC":
            return self
        twice = shown_twice(self.schedule, datetime.combine(self.start, time(), UTC), self.zone)
        feedback = self.feedback.sources if self.feedback else []
        for source in [*self.sources, *self.traffic.sources, *feedback] if twice else ():
            # The hour before says whether the name is of an hour at all.
            before = [moment - (twice[1][0] - twice[0][0]) for moment in twice[0]]
            *same, other = (source.uri_for(*(one.astimezone(self.zone) for one in ends)) for ends in (*twice, before))
            if same[0] == same[1] != other:
                raise ValueError(
                    f"source {source.name!r}: when clocks are put back on {twice[1][0]:%Y-%m-%d}, two intervals would read "
                    f"{same[0]}: those from {twice[0][0]:%H:%M} and {twice[1][0]:%H:%M} UTC; put the offset from UTC into "
                    "the name, as in {start:%Y-%m-%dT%H%z}"
                )
        return self

    @model_validator(mode="after")
    def _has_interactions_that_feedback_can_name(self) -> Self:
        if self.feedback and (wrong := self.feedback.wrong_for(self.sources, self.traffic.sources)):
            raise ValueError(f"feedback: {wrong}")
        return self

    @property
    def watched_rails(self) -> GuardRails:
        """The guard rails of the watch; where it has none of its own, those of the split."""
        own = self.watch or GuardRails()
        return self.split if self.split and len(own.rails) == 1 else own

    @model_validator(mode="after")
    def _asks_of_an_engine_what_it_can(self) -> Self:
        if self.split and self.traffic.served_elsewhere:
            raise ValueError("split: a serving system answers this traffic; leave `split` out")
        price = self.inference.endpoint.price if self.inference.endpoint else None
        batch = self.inference.hosted and self.inference.hosted.batch
        shares = {name for name, scorer in self.scorers.items() if scorer.kind == "share"}
        priced = bool(price and (price.input or price.output))
        for place, rails in {"split": self.split, "watch": self.watch}.items():
            if rails and (wrong := rails.wrong_for(shares, priced=priced, batch=bool(batch))):
                raise ValueError(f"{place}.{wrong}")
        if self.traffic.served_elsewhere and self.watch and {*self.watch.rails} - {VALID, *self.watch.guard_rails}:
            raise ValueError(
                "watch: of traffic that a serving system answers no latency, cost or tokens are known; leave their limits out"
            )
        engine = "endpoint" if self.inference.hosted else self.inference.engine
        if self.inference.hosted and self.retrain:
            raise ValueError("retrain: a model at inference.endpoint is not trained here; leave `retrain` out")
        if wrong := self.decoding.refused_by(engine, in_steps=bool(self.prompt.steps)):
            raise ValueError(f"decoding.{wrong}")
        if self.prompt.steps and batch:
            raise ValueError(
                "inference.endpoint.batch: each step waits for the one before; leave it, or `prompt.steps`, out"
            )
        return self

    @model_validator(mode="after")
    def _keeps_to_the_file_of_its_prompt(self) -> Self:
        wrong = self.prompt.unfit(
            self.decoding, self.inference.max_new_tokens, self.every_source, retrieves=self.retrieval is not None
        )
        if wrong:
            raise ValueError(f"prompt.{wrong}")
        return self

    @property
    def every_source(self) -> list[Source]:
        """The sources of all rows that the model is ever given."""
        return [*self.sources, *self.traffic.sources, *self.evaluation.suites]

    @model_validator(mode="after")
    def _searches_what_can_be_tried(self) -> Self:
        if self.search:
            if not self.ingest.splits.development:
                raise ValueError("search: it needs rows that no gate judges by; give ingest.splits.development a share")
            if self.search.metric == "judge" and self.judge is None:
                raise ValueError("search.metric: `judge` is what a judge says; the application has no `judge`")
            about = (self.prompt, self.decoding, self.inference, self.retrieval, self.every_source)
            if wrong := self.search.wrong_for(*about):
                raise ValueError(f"search{wrong}")
        if self.retrieval and (wrong := self.retrieval.wrong_for([*self.sources, *self.evaluation.suites])):
            raise ValueError(f"retrieval{wrong}")
        return self

    @model_validator(mode="after")
    def _bounds_what_is_measured(self) -> Self:
        names = {suite.name for suite in self.evaluation.suites}
        names |= {"corrections"} if self.feedback and self.feedback.corrections else set()
        metrics = [*MEASURED, *(name for name, scorer in self.scorers.items() if scorer.kind != "category")]
        relevant = bool(self.retrieval and self.retrieval.relevant)
        for condition in self.gate.conditions:
            if wrong := condition.wrong_for(metrics, names, judged=self.judge is not None, relevant=relevant):
                raise ValueError(f"gate.conditions: {wrong}")
        return self

    @model_validator(mode="after")
    def _names_metrics_that_are_there(self) -> Self:
        if problems := wrong_names(self.scorers, self.drift.metrics, self.bias.metrics):
            raise ValidationError.from_exception_data(type(self).__name__, problems)
        return self
