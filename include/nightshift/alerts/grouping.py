"""Which messages a route gets now: one a night, the worst first, and no more an hour than people can read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from nightshift.alerts.alert import Alert
from nightshift.alerts.message import Message, compose


def plan(lacking: Sequence[Alert], route: str, *, sent_this_hour: int, most_an_hour: int) -> list[Message]:
    """Return the messages that a route may get now of the alerts that it lacks; what is in none of them waits.

    What belongs to one night is one message. Where the hour leaves room for fewer messages than there are nights, the
    last one that may go is a digest of all the rest.
    """
    free = most_an_hour - sent_this_hour
    if free <= 0 or not lacking:
        return []
    by_night = sorted(lacking, key=lambda alert: alert.group)
    messages = [compose(list(alerts), route) for _, alerts in groupby(by_night, key=lambda alert: alert.group)]
    messages.sort(key=lambda message: (-message.severity.rank, message.group))
    if len(messages) <= free:
        return messages
    rest = [alert for message in messages[free - 1 :] for alert in message.alerts]
    return [*messages[: free - 1], compose(rest, route)]
