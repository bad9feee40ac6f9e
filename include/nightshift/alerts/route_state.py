"""The state of a route: delivered and pending alerts, and its errors. Each delivery makes the next state from the last."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict

from nightshift.alerts.alert import Alert
from nightshift.alerts.message import Message, worst_first
from nightshift.settings.people import Severity

# Limits of a route's pending alerts. Of those beyond, the route later gets the number and the worst one.
GIVEN_UP_AFTER = timedelta(days=7)
MOST_LACKING = 100  # alerts
REMEMBERED = 500  # ids of delivered alerts, so that an alert that is processed again is not sent twice
HOUR = timedelta(hours=1)


class Trouble(BaseModel):
    """Why a route does not accept messages.

    :param since: the first failure in a row; `last`: the newest.
    """

    since: AwareDatetime
    last: AwareDatetime
    tries: int
    error: str


class Took(BaseModel):
    """When a route accepted a message, and its severity; a recovery is `info`."""

    at: AwareDatetime
    severity: Severity


class GivenUp(BaseModel):
    """Alerts that a route did not accept for too long; the mailbox has all of them."""

    count: int
    worst: Alert

    @property
    def alert(self) -> Alert:
        """The alert in their place, for when the route accepts messages again."""
        subject = "alert is" if self.count == 1 else "alerts are"
        return self.worst.model_copy(
            update={
                "title": f"{self.count} older {subject} only in the mailbox; the worst: {self.worst.title}",
                "facts": [
                    f"This route did not accept messages. Alerts that wait longer than {GIVEN_UP_AFTER.days} days, or behind "
                    f"{MOST_LACKING} newer ones, are summed up.",
                    *self.worst.facts,
                ],
                "todo": "read the mailbox of the dashboard",
                "condition": "",
                "occurrence": f"{self.worst.occurrence} given up {self.count}",
            }
        )


class RouteState(BaseModel):
    """The state of one route.

    :param lacks: pending alerts, in order of time.
    :param brought: ids of delivered alerts, the newest last.
    :param took: the messages of the last hour.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    lacks: list[Alert] = []
    brought: list[str] = []
    took: list[Took] = []
    trouble: Trouble | None = None
    given_up: GivenUp | None = None

    @property
    def pending(self) -> list[Alert]:
        """All alerts that are pending now."""
        return [*([self.given_up.alert] if self.given_up else []), *self.lacks]

    def with_pending(self, alerts: Iterable[Alert], now: datetime) -> RouteState:
        """Return the state with more pending alerts; those that wait too long, or behind too many, are given up."""
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

    def with_delivered(self, message: Message, now: datetime) -> RouteState:
        """Return the state after a message was accepted."""
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

    def with_refusal(self, error: str, now: datetime) -> RouteState:
        """Return the state after a message was refused."""
        since, tries = (self.trouble.since, self.trouble.tries) if self.trouble else (now, 0)
        trouble = Trouble(since=since, last=now, tries=tries + 1, error=error)
        return self.model_copy(update={"trouble": trouble})
