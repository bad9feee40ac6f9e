"""Which messages a route gets now: one an interval, the worst first, and no more an hour than people can read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from nightshift.alerts.alert import Alert
from nightshift.alerts.message import Message, compose
from nightshift.settings.people import Severity


def plan(lacking: Sequence[Alert], route: str, *, this_hour: Sequence[Severity], most_an_hour: int) -> list[Message]:
    """Return the messages that a route may get now of its pending alerts; alerts in none of them wait.

    Alerts of one interval are one message. If the hourly limit allows fewer messages than there are intervals, the last message
    is a digest of all the rest. Critical alerts ignore a limit that less severe messages used up: they go at once, with all the
    rest, unless the hour had as many critical messages.

    :param this_hour: severities of the messages that the route accepted in the last hour.
    """
    if not lacking:
        return []
    free = most_an_hour - len(this_hour)
    critical = any(alert.severity is Severity.CRITICAL and not alert.good for alert in lacking)
    if free <= 0 and critical and this_hour.count(Severity.CRITICAL) < most_an_hour:
        free = 1
    if free <= 0:
        return []
    by_group = sorted(lacking, key=lambda alert: alert.group)
    messages = [compose(list(alerts), route) for _, alerts in groupby(by_group, key=lambda alert: alert.group)]
    messages.sort(key=lambda message: (-message.severity.rank, message.group))
    if len(messages) <= free:
        return messages
    rest = [alert for message in messages[free - 1 :] for alert in message.alerts]
    return [*messages[: free - 1], compose(rest, route)]
