"""What one state that alerts go to was brought, lacks, and does not take: each delivery makes the next from the last."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict

from nightshift.alerts.alert import Alert
from nightshift.alerts.message import Message, worst_first
from nightshift.settings.people import Severity

# What a state did not take is kept for it so long, and so many of it; of the rest it will get the number and the worst.
GIVEN_UP_AFTER = timedelta(days=7)
MOST_LACKING = 100  # alerts
REMEMBERED = 500  # ids of alerts that it was brought: whoever takes an alert up again brings it nothing twice
HOUR = timedelta(hours=1)


class Trouble(BaseModel):
    """Why a state does not take messages.

    :param since: the first failure in a row; `last`: the newest.
    """

    since: AwareDatetime
    last: AwareDatetime
    tries: int
    error: str


class Took(BaseModel):
    """When a state took a message, and how bad that was; a recovery is `info`."""

    at: AwareDatetime
    severity: Severity


class GivenUp(BaseModel):
    """What a state did not take for too long; the mailbox has all of it."""

    count: int
    worst: Alert

    @property
    def alert(self) -> Alert:
        """What the state is told in their stead, when it takes messages again."""
        said = "alert is" if self.count == 1 else "alerts are"
        return self.worst.model_copy(
            update={
                "title": f"{self.count} older {said} only in the mailbox; the worst: {self.worst.title}",
                "facts": [
                    f"Nothing could be brought here. What waits longer than {GIVEN_UP_AFTER.days} days, or behind "
                    f"{MOST_LACKING} newer alerts, is summed up.",
                    *self.worst.facts,
                ],
                "todo": "read the mailbox of the dashboard",
                "condition": "",
                "occurrence": f"{self.worst.occurrence} given up {self.count}",
            }
        )


class RouteState(BaseModel):
    """What is known of one state.

    :param lacks: what it is to be brought, in order of time.
    :param brought: ids, the newest last.
    :param took: the messages of the last hour.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    lacks: list[Alert] = []
    brought: list[str] = []
    took: list[Took] = []
    trouble: Trouble | None = None
    given_up: GivenUp | None = None

    @property
    def untold(self) -> list[Alert]:
        """All that it is to be told now."""
        return [*([self.given_up.alert] if self.given_up else []), *self.lacks]

    def noting(self, alerts: Iterable[Alert], now: datetime) -> RouteState:
        """Return it with more alerts to bring; what waits too long, or behind too many, is given up."""
        known = {*self.brought, *(alert.id for alert in self.lacks)}
        lacks = sorted([*self.lacks, *(one for one in alerts if one.id not in known)], key=lambda alert: alert.at)
        kept = [alert for alert in lacks if now - alert.at <= GIVEN_UP_AFTER][-MOST_LACKING:]
        if not (dropped := lacks[: len(lacks) - len(kept)]):
            return self.model_copy(update={"lacks": kept})
        count = len(dropped)
        if self.given_up:
            count, dropped = count + self.given_up.count, [self.given_up.worst, *dropped]
        given_up = GivenUp(count=count, worst=min(dropped, key=worst_first))
        return self.model_copy(update={"lacks": kept, "given_up": given_up})

    def having(self, message: Message, now: datetime) -> RouteState:
        """Return it after it took a message."""
        told = {alert.id for alert in message.alerts}
        brought = [alert.id for alert in self.lacks if alert.id in told]
        took = Took(at=now, severity=Severity.INFO if message.good else message.severity)
        return self.model_copy(
            update={
                "lacks": [alert for alert in self.lacks if alert.id not in told],
                "brought": [*self.brought, *brought][-REMEMBERED:],
                "took": [*(one for one in self.took if now - one.at < HOUR), took],
                "trouble": None,
                "given_up": None if self.given_up and self.given_up.alert.id in told else self.given_up,
            }
        )

    def refusing(self, error: str, now: datetime) -> RouteState:
        """Return it after it did not take a message."""
        since, tries = (self.trouble.since, self.trouble.tries) if self.trouble else (now, 0)
        trouble = Trouble(since=since, last=now, tries=tries + 1, error=error)
        return self.model_copy(update={"trouble": trouble})
