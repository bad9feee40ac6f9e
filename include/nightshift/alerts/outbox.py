"""The outbox: keeps alerts in storage until every route has them.

Below `<storage>/<application>/alerts`:

    kept/<alert>.json          all alerts ever accepted, so that none is sent twice; never listed
    waiting/<alert>.json       alerts that no delivery has processed yet; written first
    mailbox/<month>/<time>-<message>.json  every message, in order of time, as the dashboard shows them
    places/<route>/<lease>.json  a route's pending alerts and errors; the newest lease counts
    open/<condition>.json      open conditions
    leases/<number>.json       the lease of the process that sends; only one does at a time
    watch.json                 when the DAG `nightshift_alerts` last checked the application

A process that is killed at any line leaves a complete alert, or one in `waiting`, which the next delivery completes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pydantic import AwareDatetime, BaseModel, ValidationError
from upath import UPath

from nightshift.alerts.alert import Alert
from nightshift.alerts.conditions import Open, as_sent, ended_by, with_alert
from nightshift.alerts.message import Message, compose
from nightshift.alerts.route_state import RouteState
from nightshift.errors import BadInput
from nightshift.ledger.records import AlertResponse
from nightshift.ledger.store import Ledger, condition_key
from nightshift.settings.people import Alerts, Route
from nightshift.storage.files import create, names_in, read_bytes, replace

MAILBOX = "mailbox"  # the built-in route
STAMP = "%Y%m%dT%H%M%S%f"
MOST_TAKEN = 100  # alerts that one delivery processes; the next goes on

Kept = TypeVar("Kept", bound=BaseModel)


log = logging.getLogger(__name__)


class Waiting(BaseModel):
    """A route's pending alerts, as the message that would be sent now."""

    message: Message
    route: str
    since: AwareDatetime
    error: str = ""
    tries: int = 0


class Look(BaseModel):
    """When `nightshift_alerts` last checked an application."""

    at: AwareDatetime


class _Lease(BaseModel):
    until: AwareDatetime


class Outbox:
    """The outbox of one application.

    :raises OSError: storage cannot be read or written (every method; object stores have errors of their own).
    """

    def __init__(self, storage: str, application: str) -> None:
        self._application = application
        self._folder = UPath(storage).joinpath(application, "alerts")
        self._ledger = Ledger(storage, application)

    def accept(self, alert: Alert) -> bool:
        """Keep an alert to be sent; False if it is known already, or ends a condition that is not open."""
        if self.knows(alert.id):
            return False
        held = self._read(Open, "open", condition_key(alert.condition)) if alert.condition else None
        sent = ended_by(held, alert) if alert.good else as_sent(held, alert, self._response(alert.condition))
        if sent is None:
            return False
        if sent.id != alert.id and self.knows(sent.id):
            # Another process kept an alert of this condition at the same time; the recovery still ends it.
            self._complete(sent)
            return False
        if not create(self._path("waiting", sent.id), _json(sent)):
            sent = self._read(Alert, "waiting", sent.id) or sent
        return self._complete(sent)

    def knows(self, alert: str) -> bool:
        """Whether this alert, or a more specific one in its place, was accepted."""
        return self._content("kept", alert) is not None

    def looked(self, now: datetime) -> None:
        """Record that this application was checked."""
        replace(self._path("watch"), _json(Look(at=now)))

    def last_look(self) -> datetime | None:
        """Return when this application was last checked; None: never."""
        look = self._read(Look, "watch")
        return look.at if look else None

    def taken_up(self) -> list[Alert]:
        """Return alerts that no delivery has processed yet, in order of time; half-accepted ones are completed."""
        found = self._waiting()
        for alert in found:
            if not self.knows(alert.id):
                self._complete(alert)
        return found

    def done(self, alert: Alert) -> None:
        """Remove an alert from `waiting`: the mailbox has it, and so has the state of each route."""
        self._remove("waiting", alert.id)

    def route_state(self, route: str) -> RouteState:
        """Return the state of a route."""
        for lease in reversed(self._names("places", route)):
            if found := self._read(RouteState, "places", route, lease):
                return found
        return RouteState()

    def keep_route_state(self, route: str, state: RouteState, lease: int) -> None:
        """Write the state of a route. If the lease has run out, the state of the next lease holder replaces it."""
        replace(self._path("places", route, f"{lease:09d}"), _json(state))
        for old in self._names("places", route):
            if int(old) < lease:
                self._remove("places", route, old)

    def into_mailbox(self, message: Message, now: datetime) -> None:
        """Put a message into the mailbox of the dashboard."""
        sent = message.model_copy(update={"sent": now})
        replace(self._path("mailbox", f"{now:%Y-%m}", f"{now:{STAMP}}-{message.id}"), _json(sent))

    def messages(self, newest: int) -> list[Message]:
        """Return the newest messages of the mailbox, newest first; it has all messages, whatever the routes."""
        names: list[tuple[str, str]] = []
        for month in reversed(names_in(self._folder / "mailbox")):
            names += [(month, name) for name in reversed(self._names("mailbox", month))]
            if len(names) >= newest:
                break
        return [found for name in names[:newest] if (found := self._read(Message, "mailbox", *name))]

    def waiting(self, alerts: Alerts) -> list[Waiting]:
        """Return the pending alerts of each route, oldest first. It only reads."""
        new, now, found = self._waiting(), datetime.now(UTC), []
        for key, routes in by_route(alerts).items():
            state = self.route_state(key).with_pending(taken(routes, new), now)
            if pending := state.pending:
                found.append(
                    Waiting(
                        message=compose(pending, key),
                        route=routes[0].to,
                        since=min(alert.at for alert in pending),
                        error=state.trouble.error if state.trouble else "",
                        tries=state.trouble.tries if state.trouble else 0,
                    )
                )
        return sorted(found, key=lambda waiting: waiting.since)

    def undelivered(self) -> list[Alert]:
        """Return all alerts that some route does not have yet, in order of time."""
        lacking = [alert for route in names_in(self._folder / "places") for alert in self.route_state(route).lacks]
        found = {alert.id: alert for alert in [*self._waiting(), *lacking]}
        return sorted(found.values(), key=lambda alert: alert.at)

    def open(self) -> list[Alert]:
        """Return the open conditions, each as its newest alert with the severity that was sent, oldest first."""
        return [held.alert.model_copy(update={"severity": held.severity}) for held in self.held()]

    def held(self) -> list[Open]:
        """Return the open conditions, oldest first."""
        found = [held for name in self._names("open") if (held := self._read(Open, "open", name))]
        return sorted(found, key=lambda held: held.alert.since)

    def _response(self, condition: str) -> AlertResponse | None:
        """The newest response to a condition; an unreadable one is ignored, so that alerts are sent."""
        try:
            return self._ledger.responses([condition] if condition else []).get(condition)
        except BadInput as error:
            log.warning("%s", error)
            return None

    def forget(self, condition: str) -> None:
        """Close a condition without a recovery: another alert replaced it."""
        self._remove("open", condition_key(condition))

    @contextmanager
    def lease(self, seconds: float) -> Iterator[int | None]:
        """Hold the lease to send for this application; yields its number, or None if another process holds it.

        The lease of a killed process expires. The clocks of all machines must agree within seconds.
        """
        now = datetime.now(UTC)
        numbers = sorted(int(name) for name in self._names("leases") if name.isdigit())
        newest = self._read(_Lease, "leases", f"{numbers[-1]:09d}") if numbers else None
        number = numbers[-1] + 1 if numbers else 1
        mine = _Lease(until=now + timedelta(seconds=seconds))
        if (newest and newest.until > now) or not create(self._path("leases", f"{number:09d}"), _json(mine)):
            yield None
            return
        if any(int(name) > number for name in self._names("leases") if name.isdigit()):
            # Other processes took and released the lease since the first look; ours is not the newest.
            self._remove("leases", f"{number:09d}")
            yield None
            return
        for old in numbers:
            self._remove("leases", f"{old:09d}")
        try:
            yield number
        finally:
            replace(self._path("leases", f"{number:09d}"), _json(_Lease(until=datetime.now(UTC))))

    def _complete(self, sent: Alert) -> bool:
        """Complete the acceptance of a waiting alert; each step may have been done before."""
        condition = condition_key(sent.condition)
        held = self._read(Open, "open", condition) if sent.condition else None
        if sent.condition and not sent.good:
            replace(self._path("open", condition), _json(with_alert(held, sent)))
        for superfluous in sent.explains:
            create(self._path("kept", superfluous), json.dumps({"explained_by": sent.id}).encode())
        if sent.good and held and held.opened == sent.opened:
            self._remove("open", condition)
        return create(self._path("kept", sent.id), _json(sent))

    def _waiting(self) -> list[Alert]:
        """Alerts that no delivery has processed yet, up to `MOST_TAKEN`."""
        names = self._names("waiting")[:MOST_TAKEN]
        found = [alert for name in names if (alert := self._read(Alert, "waiting", name))]
        return sorted(found, key=lambda alert: alert.at)

    def _path(self, *parts: str) -> UPath:
        return self._folder.joinpath(*parts[:-1], f"{parts[-1]}.json")

    def _names(self, *parts: str) -> list[str]:
        names = names_in(self._folder.joinpath(*parts))
        return [name.removesuffix(".json") for name in names if name.endswith(".json")]

    def _content(self, *parts: str) -> bytes | None:
        return read_bytes(self._path(*parts))

    def _read(self, model: type[Kept], *parts: str) -> Kept | None:
        """The content of a file; None if it is missing or unreadable, so that it blocks no other alert."""
        content = self._content(*parts)
        with suppress(ValidationError):
            return model.model_validate_json(content) if content else None
        return None

    def _remove(self, *parts: str) -> None:
        path = self._path(*parts)
        with suppress(FileNotFoundError):
            path.fs.rm_file(path.path)


def route_key(route: Route) -> str:
    """Return the name of a route in storage: its connection, and a digest of connection and addresses."""
    digest = hashlib.sha256(json.dumps([route.to, sorted(route.mail)]).encode()).hexdigest()[:8]
    return f"{route.to}-{digest}"


def by_route(alerts: Alerts) -> dict[str, list[Route]]:
    """Return the routes by their key: two routes to one destination send each alert once."""
    places: dict[str, list[Route]] = defaultdict(list)
    for route in alerts.routes:
        places[route_key(route)].append(route)
    return places


def taken(routes: Iterable[Route], alerts: Iterable[Alert]) -> list[Alert]:
    """Return the alerts that one of the routes accepts; silenced ones go to none."""
    routes = list(routes)
    return [
        alert
        for alert in alerts
        if not alert.quiet and any(route.takes(alert.kind, alert.severity) for route in routes)
    ]


def _json(value: BaseModel) -> bytes:
    return value.model_dump_json(indent=1).encode()
