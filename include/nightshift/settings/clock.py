"""The clock of an application: its time zone, and when its DAGs look although no event woke them."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from nightshift.settings.fields import Model, likely, omit_default

Look = Literal["reconfigure", "finetune", "drift", "release", "bias"]
FIRST: dict[Look, tuple[int, int]] = {
    "reconfigure": (4, 0), "finetune": (4, 30), "drift": (5, 0), "release": (5, 30), "bias": (6, 0),
}  # fmt: skip
SPREAD_MINUTES = 30  # over which applications that say nothing are spread


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        meant = likely(name, available_timezones()) or "write one such as Europe/Berlin"
        raise ValueError(f"is no time zone of the tz database; {meant}") from None
    return name


def _time_of_day(value: Any) -> Any:
    """Take what YAML 1.1 makes of an unquoted 12:30, a number to the base of sixty."""
    text = f"{value // 60:02}:{value % 60:02}" if isinstance(value, int) and value >= 60 else str(value)
    if value is not None and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
        raise ValueError("is no time of day such as 05:30")
    return value if value is None else text


TimeZone = Annotated[str, AfterValidator(_known_zone)]
TimeOfDay = Annotated[str | None, BeforeValidator(_time_of_day)]


class Clock(Model):
    """When an application's DAGs look on their own (in its time zone), and when an interval counts as missing."""

    reconfigure: TimeOfDay = omit_default(
        None,
        description="when reconfigure looks whether the file's prompt or decoding is another than the champion's; empty: from "
        "04:00 to 04:29",
    )
    finetune: TimeOfDay = Field(
        None, description="when finetune looks for an order that no event told of; empty: from 04:30 to 04:59"
    )
    drift: TimeOfDay = Field(
        None, description="when nightly_drift looks for what is missing; empty: from 05:00 to 05:29"
    )
    release: TimeOfDay = Field(
        None, description="when release looks for a candidate that no event told of; empty: from 05:30 to 05:59"
    )
    bias: TimeOfDay = Field(None, description="when nightly_bias looks for what is missing; empty: from 06:00 to 06:29")
    grace_hours: float = Field(
        4,
        ge=0,
        le=720,
        description="hours from the end of an interval until its interactions, then its verdict, are due",
    )

    arrival_hours: float = Field(
        2,
        ge=0,
        le=720,
        description="hours from the end of an interval in which its data may still arrive: ingest waits for a file of each "
        "source, or a row of its query, then says that there is none",
    )
    wait_hours: float = Field(
        4,
        gt=0,
        le=720,
        description="hours beyond arrival_hours that batch_inference waits for the examples of its interval (ingest makes them), "
        "before it is skipped",
    )

    @model_validator(mode="after")
    def _due_after_arrival(self) -> Clock:
        if self.grace_hours < self.arrival_hours:
            raise ValueError(
                f"grace_hours ({self.grace_hours:g}) is shorter than arrival_hours ({self.arrival_hours:g}): an interval would "
                "be told as missing while its data may still arrive"
            )
        return self

    def cron(self, look: Look, application: str) -> str:
        """Return when a DAG looks, as a cron expression; without a setting it follows from the application's name."""
        if time := getattr(self, look):
            hour, minute = map(int, time.split(":"))
        else:
            hour, minute = FIRST[look]
            minute += int(hashlib.sha256(application.encode()).hexdigest(), 16) % SPREAD_MINUTES
        return f"{minute} {hour} * * *"
