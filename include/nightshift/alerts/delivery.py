"""Delivers the pending alerts of an outbox to the mailbox and to the application's routes."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from nightshift.alerts.channels import NotDelivered, send
from nightshift.alerts.grouping import plan
from nightshift.alerts.outbox import MAILBOX, Outbox, by_route, taken
from nightshift.alerts.route_state import HOUR, RouteState
from nightshift.settings.application import Application
from nightshift.settings.people import Route

SEND_SECONDS = 20  # time limit of one message to one route

log = logging.getLogger(__name__)


def deliver(app: Application, outbox: Outbox, *, seconds: float, rest_after_trouble: timedelta) -> dict[str, str]:
    """Send pending alerts, and return the errors of routes by connection.

    Only one process at a time sends for an application; another one leaves its alerts to that one and to the next delivery. A
    message is sent at least once: a process that is killed between sending and recording that sends it again.
    The number of storage calls depends on new alerts and sent messages only.

    :param seconds: no message is started later than this.
    :param rest_after_trouble: a route that failed is not tried for this long.
    """
    with outbox.lease(seconds + SEND_SECONDS + 10) as lease:
        if lease is None:
            log.info("another process sends the alerts of %s", app.name)
            return {}
        stop = datetime.now(UTC) + timedelta(seconds=seconds)
        # Before any route's state is read: alerts that are missing here are in a state already.
        new = outbox.taken_up()
        places = {}
        for key, routes in by_route(app.alerts).items():
            before = outbox.route_state(key)
            places[key] = routes[0], before.with_pending(taken(routes, new), datetime.now(UTC))
            if places[key][1] != before:
                _given_up(app, routes[0], before, places[key][1])
                outbox.keep_route_state(key, places[key][1], lease)
        if datetime.now(UTC) >= stop:
            return {}  # storage hangs, and another process may hold the lease by now: it sends the new alerts
        # The mailbox disturbs nobody: it has no rate limit.
        for message in plan(new, MAILBOX, this_hour=[], most_an_hour=len(new)):
            outbox.into_mailbox(message, datetime.now(UTC))
        for alert in new:
            outbox.done(alert)
        troubles = {}
        for key, (route, state) in places.items():
            if trouble := _to_route(app, outbox, key, route, state, lease, stop, rest_after_trouble):
                troubles[route.to] = trouble
    return troubles


def _given_up(app: Application, route: Route, before: RouteState, state: RouteState) -> None:
    if state.given_up and state.given_up != before.given_up:
        log.warning(
            "alerts of %s given up for %s, now only in the mailbox: %d", app.name, route.to, state.given_up.count
        )


def _to_route(  # noqa: PLR0917
    app: Application,
    outbox: Outbox,
    key: str,
    route: Route,
    state: RouteState,
    lease: int,
    stop: datetime,
    rest_after_trouble: timedelta,
) -> str:
    """Send a route's pending alerts; return its error, if any."""
    now = datetime.now(UTC)
    if state.trouble and now - state.trouble.last < rest_after_trouble:
        return ""
    this_hour = [took.severity for took in state.took if now - took.at < HOUR]
    for message in plan(state.pending, key, this_hour=this_hour, most_an_hour=app.alerts.max_an_hour):
        if datetime.now(UTC) >= stop:
            break
        try:
            send(route, message, SEND_SECONDS)
        except NotDelivered as error:
            log.warning("%s did not accept an alert of %s, which is sent later: %s", route.to, app.name, error)
            outbox.keep_route_state(key, state.with_refusal(str(error), datetime.now(UTC)), lease)
            return str(error)
        log.info("sent to %s: %s", route.to, message.subject)
        state = state.with_delivered(message, datetime.now(UTC))
        outbox.keep_route_state(key, state, lease)
    return ""
