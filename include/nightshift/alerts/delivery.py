"""Delivers what waits in an outbox: to the mailbox, and to every route of the application that takes it."""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import UTC, datetime, timedelta

from nightshift.alerts.alert import Alert
from nightshift.alerts.channels import NotDelivered, send
from nightshift.alerts.grouping import plan
from nightshift.alerts.outbox import MAILBOX, Outbox, route_key
from nightshift.config import Application
from nightshift.people import Route

SEND_SECONDS = 20  # that one message to one route may take
HOUR = timedelta(hours=1)

log = logging.getLogger(__name__)


def deliver(app: Application, outbox: Outbox, *, seconds: float, rest_after_trouble: timedelta) -> dict[str, str]:
    """Send what waits, and return why routes did not take something, by their connection.

    Only one process at a time sends for an application; where another does, this one leaves it to that one and to the
    next delivery. A message is sent at least once: whoever is killed between sending and writing that down sends again.

    :param seconds: no message is begun later than this.
    :param rest_after_trouble: a route that failed is left alone for so long.
    """
    with outbox.lease(seconds + SEND_SECONDS + 10) as lease:
        if lease is None:
            log.info("another process sends the alerts of %s", app.name)
            return {}
        stop = datetime.now(UTC) + timedelta(seconds=seconds)
        waiting = outbox.undelivered()
        if not waiting:
            return {}
        if new := outbox.lacking(MAILBOX, waiting):
            # Nobody is woken by the mailbox: it knows no limit.
            for message in plan(new, MAILBOX, sent_this_hour=0, most_an_hour=len(new)):
                outbox.delivered(message, MAILBOX, datetime.now(UTC))
        lacking: set[str] = set()
        troubles = {}
        for key, routes in _by_place(app).items():
            wanted = [alert for alert in waiting if any(route.takes(alert.kind, alert.severity) for route in routes)]
            left, trouble = _to_route(app, outbox, key, routes[0], wanted, stop, rest_after_trouble)
            lacking |= left
            if trouble:
                troubles[routes[0].to] = trouble
        for alert in waiting:
            if alert.id not in lacking:
                outbox.done(alert)
    return troubles


def _by_place(app: Application) -> dict[str, list[Route]]:
    """The routes by where they lead: two to one place bring nothing twice."""
    places: dict[str, list[Route]] = defaultdict(list)
    for route in app.alerts.routes:
        places[route_key(route)].append(route)
    return places


def _to_route(  # noqa: PLR0917
    app: Application,
    outbox: Outbox,
    key: str,
    route: Route,
    wanted: list[Alert],
    stop: datetime,
    rest_after_trouble: timedelta,
) -> tuple[set[str], str]:
    """Send what a route lacks; return the ids that it still lacks, and why."""
    new = outbox.lacking(key, wanted)
    left = {alert.id for alert in new}
    trouble = outbox.trouble(key) if new else None
    if not new or (trouble and datetime.now(UTC) - trouble.last < rest_after_trouble):
        return left, ""
    sent = outbox.sent_since(key, datetime.now(UTC) - HOUR)
    for message in plan(new, key, sent_this_hour=sent, most_an_hour=app.alerts.max_an_hour):
        if datetime.now(UTC) >= stop:
            break
        try:
            send(route, message, SEND_SECONDS)
        except NotDelivered as error:
            log.warning("%s did not take an alert of %s, which waits: %s", route.to, app.name, error)
            outbox.failed(key, str(error), datetime.now(UTC))
            return left, str(error)
        log.info("%s has: %s", route.to, message.subject)
        outbox.delivered(message, key, datetime.now(UTC))
        left -= {alert.id for alert in message.alerts}
    return left, ""
