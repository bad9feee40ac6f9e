"""The outbox: alerts in storage from the moment they are noticed until every route has them.

Below `<storage>/<application>/alerts`:

    kept/<alert>.json          what was ever told, so that nothing is told twice; never listed
    waiting/<alert>.json       what no delivery took up yet; written first
    mailbox/<month>/<time>-<message>.json  every message, in order of time, as the dashboard shows them
    places/<route>/<lease>.json  what a route lacks, and why; the newest lease is right
    open/<condition>.json      what holds until a recovery
    leases/<number>.json       who sends now: of two processes one does
    watch.json                 when the DAG `nightshift_alerts` last looked after the application

Whoever is killed at any line leaves an alert that is complete, or in `waiting`, where the next delivery completes it.
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
from nightshift.alerts.conditions import Open, ended_by, held_with, told_as
from nightshift.alerts.message import Message, compose
from nightshift.alerts.route_state import RouteState
from nightshift.errors import BadInput
from nightshift.ledger.records import AlertResponse
from nightshift.ledger.store import Ledger, condition_key
from nightshift.settings.people import Alerts, Route
from nightshift.storage.files import create, names_in, read_bytes, replace

MAILBOX = "mailbox"  # the route that is always there
STAMP = "%Y%m%dT%H%M%S%f"
MOST_TAKEN = 100  # alerts that one delivery takes up; the next takes up more

Kept = TypeVar("Kept", bound=BaseModel)


log = logging.getLogger(__name__)


class Waiting(BaseModel):
    """What a route does not have yet, as the message that would be sent now."""

    message: Message
    route: str
    since: AwareDatetime
    error: str = ""
    tries: int = 0


class Look(BaseModel):
    """When somebody last looked after an application."""

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
        """Keep an alert before anybody is told of it; False where it was told before, or ends what does not hold."""
        if self.knows(alert.id):
            return False
        held = self._read(Open, "open", condition_key(alert.condition)) if alert.condition else None
        told = ended_by(held, alert) if alert.good else told_as(held, alert, self._response(alert.condition))
        if told is None:
            return False
        if told.id != alert.id and self.knows(told.id):
            # The recovery was told while somebody else told of the same condition: it is over all the same.
            self._complete(told)
            return False
        if not create(self._path("waiting", told.id), _json(told)):
            told = self._read(Alert, "waiting", told.id) or told
        return self._complete(told)

    def knows(self, alert: str) -> bool:
        """Whether the alert with this id was told, or something that says more in its state."""
        return self._content("kept", alert) is not None

    def looked(self, now: datetime) -> None:
        """Write down that somebody looked after this application."""
        replace(self._path("watch"), _json(Look(at=now)))

    def last_look(self) -> datetime | None:
        """Return when somebody last looked after this application; long ago or None: nobody does."""
        look = self._read(Look, "watch")
        return look.at if look else None

    def taken_up(self) -> list[Alert]:
        """Return some of what no delivery took up yet, in order of time; half-accepted alerts are completed."""
        found = self._waiting()
        for alert in found:
            if not self.knows(alert.id):
                self._complete(alert)
        return found

    def done(self, alert: Alert) -> None:
        """Take an alert out of those that wait: the mailbox has it, and each state has or lacks it."""
        self._remove("waiting", alert.id)

    def route_state(self, route: str) -> RouteState:
        """Return what is known of a state."""
        for lease in reversed(self._names("places", route)):
            if found := self._read(RouteState, "places", route, lease):
                return found
        return RouteState()

    def keep_route_state(self, route: str, state: RouteState, lease: int) -> None:
        """Write down what is known of a state. Of one whose lease ran out it counts for nothing beside the next one's."""
        replace(self._path("places", route, f"{lease:09d}"), _json(state))
        for old in self._names("places", route):
            if int(old) < lease:
                self._remove("places", route, old)

    def into_mailbox(self, message: Message, now: datetime) -> None:
        """Put a message into the mailbox of the dashboard."""
        sent = message.model_copy(update={"sent": now})
        replace(self._path("mailbox", f"{now:%Y-%m}", f"{now:{STAMP}}-{message.id}"), _json(sent))

    def messages(self, newest: int) -> list[Message]:
        """Return the newest messages of the mailbox, newest first; all of them went there, whatever the routes."""
        names: list[tuple[str, str]] = []
        for month in reversed(names_in(self._folder / "mailbox")):
            names += [(month, name) for name in reversed(self._names("mailbox", month))]
            if len(names) >= newest:
                break
        return [found for name in names[:newest] if (found := self._read(Message, "mailbox", *name))]

    def waiting(self, alerts: Alerts) -> list[Waiting]:
        """Return what each of the application's routes lacks, oldest first. It only reads."""
        new, now, found = self._waiting(), datetime.now(UTC), []
        for key, routes in by_route(alerts).items():
            state = self.route_state(key).noting(taken(routes, new), now)
            if untold := state.untold:
                found.append(
                    Waiting(
                        message=compose(untold, key),
                        route=routes[0].to,
                        since=min(alert.at for alert in untold),
                        error=state.trouble.error if state.trouble else "",
                        tries=state.trouble.tries if state.trouble else 0,
                    )
                )
        return sorted(found, key=lambda waiting: waiting.since)

    def undelivered(self) -> list[Alert]:
        """Return what no delivery took up yet and what any state lacks, in order of time."""
        lacking = [alert for route in names_in(self._folder / "places") for alert in self.route_state(route).lacks]
        found = {alert.id: alert for alert in [*self._waiting(), *lacking]}
        return sorted(found.values(), key=lambda alert: alert.at)

    def open(self) -> list[Alert]:
        """Return the conditions that hold, each as its newest alert and as bad as it was told, those that hold longest first."""
        return [held.alert.model_copy(update={"severity": held.severity}) for held in self.held()]

    def held(self) -> list[Open]:
        """Return the conditions that hold, those that hold longest first."""
        found = [held for name in self._names("open") if (held := self._read(Open, "open", name))]
        return sorted(found, key=lambda held: held.alert.since)

    def _response(self, condition: str) -> AlertResponse | None:
        """The newest response to a condition; one that cannot be read keeps nothing from people."""
        try:
            return self._ledger.responses([condition] if condition else []).get(condition)
        except BadInput as error:
            log.warning("%s", error)
            return None

    def forget(self, condition: str) -> None:
        """End a condition without a word: something else was told in its state."""
        self._remove("open", condition_key(condition))

    @contextmanager
    def lease(self, seconds: float) -> Iterator[int | None]:
        """Be the only one who sends for this application; gives the number of the lease, or None where another has it.

        Of a killed holder it runs out by itself. The clocks of all machines must agree within seconds.
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
            # Others took and gave back the lease since the first look, and ours is none.
            self._remove("leases", f"{number:09d}")
            yield None
            return
        for old in numbers:
            self._remove("leases", f"{old:09d}")
        try:
            yield number
        finally:
            replace(self._path("leases", f"{number:09d}"), _json(_Lease(until=datetime.now(UTC))))

    def _complete(self, told: Alert) -> bool:
        """Do what makes a waiting alert a kept one: all of it may have been done before."""
        condition = condition_key(told.condition)
        held = self._read(Open, "open", condition) if told.condition else None
        if told.condition and not told.good:
            replace(self._path("open", condition), _json(held_with(held, told)))
        for superfluous in told.explains:
            create(self._path("kept", superfluous), json.dumps({"explained_by": told.id}).encode())
        if told.good and held and held.opened == told.opened:
            self._remove("open", condition)
        return create(self._path("kept", told.id), _json(told))

    def _waiting(self) -> list[Alert]:
        """What no delivery took up yet, at most so much that a delivery has an end."""
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
        """What lies there; a file that cannot be read is none, so that it keeps no other alert from people."""
        content = self._content(*parts)
        with suppress(ValidationError):
            return model.model_validate_json(content) if content else None
        return None

    def _remove(self, *parts: str) -> None:
        path = self._path(*parts)
        with suppress(FileNotFoundError):
            path.fs.rm_file(path.path)


def route_key(route: Route) -> str:
    """Return what a route is called in storage: its connection, and a digest of that and its addresses."""
    digest = hashlib.sha256(json.dumps([route.to, sorted(route.mail)]).encode()).hexdigest()[:8]
    return f"{route.to}-{digest}"


def by_route(alerts: Alerts) -> dict[str, list[Route]]:
    """Return the routes by where they lead: two to one state bring nothing twice."""
    places: dict[str, list[Route]] = defaultdict(list)
    for route in alerts.routes:
        places[route_key(route)].append(route)
    return places


def taken(routes: Iterable[Route], alerts: Iterable[Alert]) -> list[Alert]:
    """Return those of the alerts that one of the routes takes; what a person silenced none does."""
    routes = list(routes)
    return [
        alert
        for alert in alerts
        if not alert.quiet and any(route.takes(alert.kind, alert.severity) for route in routes)
    ]


def _json(value: BaseModel) -> bytes:
    return value.model_dump_json(indent=1).encode()
