"""Open conditions: which alerts about them are news, and when they end. Pure functions."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from nightshift.alerts.alert import Alert
from nightshift.ledger.records import AlertResponse
from nightshift.settings.people import Kind, Severity

# A condition that stays open for the same cause is sent again as new after this time.
TOLD_AGAIN_AFTER = timedelta(days=7)
REMEMBERED = 100  # ids of one condition


class Open(BaseModel):
    """An open condition.

    :param opened: id of the alert that opened it.
    :param alert: the newest alert about its newest interval.
    :param severity: the worst of its alerts; `notified`, the worst that went to routes, None if all were silenced.
    :param told: when it was last sent as news, or when it began while it was silenced.
    :param ids: of its newest alerts; `count` counts all.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    opened: str
    alert: Alert
    severity: Severity
    notified: Severity | None = Field(default_factory=lambda fields: fields["severity"])
    told: AwareDatetime
    count: int
    ids: list[str]


def as_sent(held: Open | None, alert: Alert, response: AlertResponse | None = None) -> Alert:
    """Return an alert as it is sent: a repetition for the same cause becomes mere information.

    :param response: a person's newest response. Silenced alerts, and repetitions of acknowledged ones, become quiet.
    """
    changed = held is None or alert.severity.rank > held.severity.rank or alert.cause != held.alert.cause
    sent = alert
    if held:
        news = changed or alert.at - held.told >= TOLD_AGAIN_AFTER or quiet_since(held, response, alert.at)
        severity = alert.severity if news else Severity.INFO
        sent = alert.model_copy(update={"since": held.alert.since, "severity": severity})
    # Each reminder has a cause of its own.
    same = not changed or (held is not None and alert.kind is Kind.APPROVAL_WAITS)
    if response and response.holds(alert.at) and (response.action == "silence" or same):
        sent = sent.model_copy(update={"quiet": True, "facts": [*sent.facts, response.sentence]})
    return sent


def quiet_since(held: Open, response: AlertResponse | None, now: datetime) -> bool:
    """Whether an acknowledgement or a silence is over, and the condition was not sent as news since."""
    return response is not None and not response.holds(now) and held.told < response.until <= now


def with_alert(held: Open | None, sent: Alert) -> Open:
    """Return a condition with one more alert, as it was sent; a known alert changes nothing."""
    notified = None if sent.quiet else sent.severity
    if held is None:
        return Open(
            opened=sent.id, alert=sent, severity=sent.severity, notified=notified, told=sent.at, count=1, ids=[sent.id]
        )
    if sent.id in held.ids:
        return held
    # An interval that is judged again later says nothing about what newer ones opened.
    older = sent.night and held.alert.night and sent.night < held.alert.night
    return Open(
        opened=held.opened,
        alert=held.alert if older else sent,
        severity=max(held.severity, sent.severity, key=lambda severity: severity.rank),
        notified=max(filter(None, (held.notified, notified)), key=lambda severity: severity.rank, default=None),
        told=held.told if sent.quiet or sent.severity is Severity.INFO else sent.at,
        count=held.count + 1,
        ids=[*held.ids, sent.id][-REMEMBERED:],
    )


def ended_by(held: Open | None, good: Alert) -> Alert | None:
    """Return a recovery as it is sent; None if it ends no open condition.

    It goes to all routes that got the worst alert, even while the condition is silenced, so that no incident stays open
    elsewhere. An earlier interval does not end what a later one opened.
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
