"""Who is asked and who is told: approvals, alerts, and the budget that people set."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nightshift.settings.fields import Model

# What a connection of Airflow may be called.
Connection = Annotated[str, Field(pattern=r"^[\w.-]+$", max_length=200)]
User = Annotated[str, Field(pattern=r"^[\w.@+-]+$", max_length=150)]
MailAddress = Annotated[str, Field(pattern=r"^[^\s@<>,;:]+@[\w.-]+$", max_length=254)]


class Severity(StrEnum):
    """How bad it is. Later ones are worse."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for the least."""
        return list(Severity).index(self)


class Kind(StrEnum):
    """What people are told about."""

    DATA_REJECTED = "data_rejected"
    NO_DATA = "no_data"
    DRIFT = "drift"
    BIAS = "bias"
    RETRAINING_STARTED = "retraining_started"
    RETRAINING_REFUSED = "retraining_refused"
    RETRAINING_FINISHED = "retraining_finished"
    GATE_FAILED = "gate_failed"
    BELOW_PROMISE = "below_promise"
    APPROVAL_WAITS = "approval_waits"
    SPLIT = "split"
    JOB_FAILED = "job_failed"
    JOB_STUCK = "job_stuck"
    DEADLINE_MISSED = "deadline_missed"
    BUDGET = "budget"


class Approval(Model):
    """When a person decides about a release, and who."""

    required: Literal["never", "warn", "always"] = Field(
        "never",
        description="never: the gate alone decides; warn: people are asked about a WARN; always: and about a PASS",
    )
    unasked: list[Literal["weights", "prompt", "decoding", "retrieval"]] = Field(
        [],
        description="parts of a version: where nothing else changed, nobody is asked about a PASS; as [retrieval], where "
        "documents change every day",
    )
    approvers: list[User] = Field(
        [], description="names of the users who may answer; empty: everybody whose role may approve"
    )
    timeout_hours: float = Field(
        24,
        ge=0.01,
        le=720,
        description="without an answer for so long the candidate is rejected and the champion stays",
    )
    remind_hours: float = Field(4, gt=0, le=168, description="hours between two reminders")

    @model_validator(mode="after")
    def _reminds_in_time(self) -> Self:
        if self.required != "never" and self.remind_hours >= self.timeout_hours:
            raise ValueError(
                f"remind_hours ({self.remind_hours:g}) must be below timeout_hours ({self.timeout_hours:g})"
            )
        return self


class Route(Model):
    """One place that alerts go to."""

    to: Connection = Field(description="Airflow connection: of type smtp, or of type apprise with any of its services")
    mail: list[MailAddress] = Field([], description="addresses (smtp only)")
    severity: Severity = Field(Severity.WARNING, description="from this severity on")
    kinds: list[Kind] = Field([], description="only these kinds; empty: all")

    def takes(self, kind: Kind, severity: Severity) -> bool:
        """Whether an alert of this kind and severity goes here."""
        return severity.rank >= self.severity.rank and (not self.kinds or kind in self.kinds)


class Alerts(Model):
    """Who is told of what. Every message is in the mailbox of the dashboard, whether it goes anywhere or not."""

    routes: list[Route] = Field([], description="where messages go")
    max_an_hour: int = Field(
        12, ge=1, le=1000, description="messages an hour to one route; what is more waits together"
    )
    late_after_hours: float = Field(12, gt=0, le=720, description="a run that takes longer than this is late")


class Budget(Model):
    """What one application may use. People are told from 80 % on; a retraining that does not fit is not ordered."""

    gpu_hours_a_week: float | None = Field(None, gt=0, description="of pods that ended in seven days; empty: no bound")
    cost_a_week: float | None = Field(
        None,
        gt=0,
        description="of pods, what an endpoint answered, and storage, in seven days, in the currency of their "
        "prices; empty: no bound",
    )
    gpu_hours_a_month: float | None = Field(None, gt=0, description="the same in thirty days")
    cost_a_month: float | None = Field(None, gt=0, description="the same in thirty days")
    storage_price: float = Field(
        0, ge=0, description="of a gigabyte in storage for a month; what is stored is counted daily"
    )

    @property
    def is_set(self) -> bool:
        """Whether anything is bounded."""
        most = (self.gpu_hours_a_week, self.cost_a_week, self.gpu_hours_a_month, self.cost_a_month)
        return any(one is not None for one in most)
