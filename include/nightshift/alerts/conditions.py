"""What holds since when, and what is still news of it: pure functions of an open condition and a new alert."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from nightshift.alerts.alert import Alert
from nightshift.ledger.records import AlertResponse
from nightshift.settings.people import Kind, Severity

# A condition that holds on for the same cause is told again as if it were new after this time.
TOLD_AGAIN_AFTER = timedelta(days=7)
REMEMBERED = 100  # ids of one condition


class Open(BaseModel):
    """A condition that holds.

    :param opened: id of the alert that opened it.
    :param alert: the alert about the newest interval of it, and of those the newest.
    :param severity: the worst that is known of it; `notified`, the worst that went to routes, None where all was silenced.
    :param told: when it was last told as news, or when it began while it was silenced.
    :param ids: of the newest alerts about it; `count` counts all.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    opened: str
    alert: Alert
    severity: Severity
    notified: Severity | None = Field(default_factory=lambda fields: fields["severity"])
    told: AwareDatetime
    count: int
    ids: list[str]


def told_as(held: Open | None, alert: Alert, response: AlertResponse | None = None) -> Alert:
    """Return an alert as people are told of it: that the same holds on, for the same cause, is only information.

    :param response: the newest of a person to its condition. What is silenced, or holds on while it is acknowledged, is quiet.
    """
    changed = held is None or alert.severity.rank > held.severity.rank or alert.cause != held.alert.cause
    told = alert
    if held:
        news = changed or alert.at - held.told >= TOLD_AGAIN_AFTER or quiet_since(held, response, alert.at)
        severity = alert.severity if news else Severity.INFO
        told = alert.model_copy(update={"since": held.alert.since, "severity": severity})
    # Each reminder has a cause of its own.
    same = not changed or (held is not None and alert.kind is Kind.APPROVAL_WAITS)
    if response and response.holds(alert.at) and (response.action == "silence" or same):
        told = told.model_copy(update={"quiet": True, "facts": [*told.facts, response.said]})
    return told


def quiet_since(held: Open, response: AlertResponse | None, now: datetime) -> bool:
    """Whether an acknowledgement or a silence is over, and the condition was not told as news after it."""
    return response is not None and not response.holds(now) and held.told < response.until <= now


def held_with(held: Open | None, told: Alert) -> Open:
    """Return a condition with one more alert about it, as it was told; one that it knows changes nothing."""
    notified = None if told.quiet else told.severity
    if held is None:
        return Open(
            opened=told.id, alert=told, severity=told.severity, notified=notified, told=told.at, count=1, ids=[told.id]
        )
    if told.id in held.ids:
        return held
    # An interval that is judged again later says nothing about what newer ones opened.
    older = told.night and held.alert.night and told.night < held.alert.night
    return Open(
        opened=held.opened,
        alert=held.alert if older else told,
        severity=max(held.severity, told.severity, key=lambda severity: severity.rank),
        notified=max(filter(None, (held.notified, notified)), key=lambda severity: severity.rank, default=None),
        told=held.told if told.quiet or told.severity is Severity.INFO else told.at,
        count=held.count + 1,
        ids=[*held.ids, told.id][-REMEMBERED:],
    )


def ended_by(held: Open | None, good: Alert) -> Alert | None:
    """Return a recovery as people are told of it; None where it ends nothing.

    It goes to whoever was told the worst of it: also while that is silenced, so that no incident stays open elsewhere.
    An earlier interval says nothing about what a later one opened.
    """
    if held is None or (good.night and held.alert.night and good.night < held.alert.night):
        return None
    alerts = "one alert" if held.count == 1 else f"{held.count} alerts"
    return good.model_copy(
        update={
            "opened": held.opened,
            "severity": held.notified or held.severity,
            "quiet": held.notified is None,
            "since": held.alert.since,
            "facts": [*good.facts, f"It held since {held.alert.since:%Y-%m-%d %H:%M} UTC, with {alerts}."],
        }
    )
