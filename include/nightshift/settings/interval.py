"""The data interval that a partition holds, a run is of, and a decision is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Self

from pydantic import field_validator, model_validator

from nightshift.settings.fields import Model


class Interval(Model):
    """A data interval: from `start` (included) to `end` (excluded), UTC."""

    start: datetime
    end: datetime

    @model_validator(mode="before")
    @classmethod
    def _is_there(cls, value: Any) -> Any:
        if value == {}:
            raise ValueError("this run has no data interval; fill in `day`")
        return value

    @model_validator(mode="after")
    def _runs_forward(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"the data interval ends ({self.end}) before it starts ({self.start})")
        return self

    @field_validator("start", "end")
    @classmethod
    def _in_utc(cls, value: datetime) -> datetime:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    @classmethod
    def of_key(cls, key: str) -> Interval | None:
        """Return the interval that has this key, None where none has."""
        start, _, end = key.partition("_")
        form = "%Y-%m-%dT%H%M%S" if end else "%Y-%m-%d"
        try:
            first = datetime.strptime(start, form).replace(tzinfo=UTC)
            return cls(start=first, end=datetime.strptime(end, form) if end else first + timedelta(days=1))
        except (ValueError, OverflowError):
            return None

    @property
    def key(self) -> str:
        """The interval as a folder name: `2026-11-02` for a whole day, else both ends to the second."""
        if (self.end - self.start).total_seconds() == 86_400 and not (
            self.start.hour or self.start.minute or self.start.second
        ):
            return self.start.strftime("%Y-%m-%d")
        return f"{self.start:%Y-%m-%dT%H%M%S}_{self.end:%Y-%m-%dT%H%M%S}"
