"""The outbox: alerts in storage from the moment they are noticed until every route has them.

Below `<storage>/<application>/alerts`:

    kept/<alert>.json              what was ever told, so that nothing is told twice
    waiting/<alert>.json           what some route may still lack; written first, removed last
    delivered/<route>/<alert>.json which message brought it there
    sent/<route>/<time>-<message>.json  the messages, in order of time; those of the mailbox are shown by the dashboard
    open/<condition>.json          what holds until a recovery
    trouble/<route>.json           why a route does not take messages at the moment
    leases/<number>.json           who sends now: of two processes one does
    watch.json                     when the DAG `nightshift_alerts` last looked after the application

Whoever is killed at any line leaves an alert that is complete, or in `waiting`, where the next delivery completes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pydantic import AwareDatetime, BaseModel, ValidationError
from upath import UPath

from nightshift.alerts.alert import Alert
from nightshift.alerts.conditions import Open, ended_by, held_with, told_as
from nightshift.alerts.message import Message, compose
from nightshift.data.storage import create, replace
from nightshift.monitoring.published_nights import names_in
from nightshift.people import Alerts, Route

MAILBOX = "mailbox"  # the route that is always there
STAMP = "%Y%m%dT%H%M%S%f"

Kept = TypeVar("Kept", bound=BaseModel)


class Trouble(BaseModel):
    """Why a route does not take messages.

    :param since: the first failure in a row; `last`: the newest.
    """

    since: AwareDatetime
    last: AwareDatetime
    tries: int
    error: str


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

    def accept(self, alert: Alert) -> bool:
        """Keep an alert before anybody is told of it; False where it was told before, or ends what does not hold."""
        if self.knows(alert.id):
            return False
        held = self._read(Open, "open", _condition(alert.condition)) if alert.condition else None
        told = ended_by(held, alert) if alert.good else told_as(held, alert)
        if told is None:
            return False
        if self.knows(told.id):  # a recovery that was told, by somebody who was killed before the end was written
            self._complete(told)
            return False
        if not create(self._path("waiting", told.id), _json(told)):
            told = self._read(Alert, "waiting", told.id) or told
        return self._complete(told)

    def knows(self, alert: str) -> bool:
        """Whether the alert with this id was told, or something that says more in its place."""
        return self._content("kept", alert) is not None

    def looked(self, now: datetime) -> None:
        """Write down that somebody looked after this application."""
        replace(self._path("watch"), _json(Look(at=now)))

    def last_look(self) -> datetime | None:
        """Return when somebody last looked after this application; long ago or None: nobody does."""
        look = self._read(Look, "watch")
        return look.at if look else None

    def undelivered(self) -> list[Alert]:
        """Return what some route may lack, in order of time; half-accepted alerts are completed."""
        found = []
        for name in self._names("waiting"):
            if alert := self._read(Alert, "waiting", name):
                if not self.knows(name):
                    self._complete(alert)
                found.append(alert)
        return sorted(found, key=lambda alert: alert.at)

    def lacking(self, route: str, alerts: list[Alert]) -> list[Alert]:
        """Return those of the alerts that a route was not brought."""
        brought = set(self._names("delivered", route))
        return [alert for alert in alerts if alert.id not in brought]

    def delivered(self, message: Message, route: str, now: datetime) -> None:
        """Write down that a route took a message."""
        sent = message.model_copy(update={"sent": now})
        replace(self._path("sent", route, f"{now:{STAMP}}-{message.id}"), _json(sent))
        for alert in message.alerts:
            create(self._path("delivered", route, alert.id), json.dumps({"message": message.id}).encode())
        if route != MAILBOX and self.trouble(route):
            self._remove("trouble", route)

    def done(self, alert: Alert) -> None:
        """Take an alert out of those that wait."""
        self._remove("waiting", alert.id)

    def sent_since(self, route: str, since: datetime) -> int:
        """Return how many messages a route took since a moment."""
        return sum(name >= f"{since:{STAMP}}" for name in self._names("sent", route))

    def trouble(self, route: str) -> Trouble | None:
        """Return why a route does not take messages, if it does not."""
        return self._read(Trouble, "trouble", route)

    def failed(self, route: str, error: str, now: datetime) -> None:
        """Write down that a route did not take a message."""
        before = self.trouble(route)
        trouble = Trouble(
            since=before.since if before else now, last=now, tries=before.tries + 1 if before else 1, error=error
        )
        replace(self._path("trouble", route), _json(trouble))

    def messages(self, newest: int) -> list[Message]:
        """Return the newest messages of the mailbox, newest first; all of them went there, whatever the routes."""
        names = self._names("sent", MAILBOX)[-newest:]
        return [found for name in reversed(names) if (found := self._read(Message, "sent", f"{MAILBOX}/{name}"))]

    def waiting(self, alerts: Alerts) -> list[Waiting]:
        """Return what each of the application's routes lacks, oldest first."""
        undelivered = self.undelivered()
        found = []
        for route in alerts.routes:
            key = route_key(route)
            wanted = [alert for alert in undelivered if route.takes(alert.kind, alert.severity)]
            if lacking := self.lacking(key, wanted):
                trouble = self.trouble(key)
                found.append(
                    Waiting(
                        message=compose(lacking, key),
                        route=route.to,
                        since=lacking[0].at,
                        error=trouble.error if trouble else "",
                        tries=trouble.tries if trouble else 0,
                    )
                )
        return sorted(found, key=lambda waiting: waiting.since)

    def open(self) -> list[Alert]:
        """Return the conditions that hold, each as its newest alert, those that hold longest first."""
        return [held.alert for held in self.held()]

    def held(self) -> list[Open]:
        """Return the conditions that hold, those that hold longest first."""
        found = [held for name in self._names("open") if (held := self._read(Open, "open", name))]
        return sorted(found, key=lambda held: held.alert.since)

    def forget(self, condition: str) -> None:
        """End a condition without a word: something else was told in its place."""
        self._remove("open", _condition(condition))

    @contextmanager
    def lease(self, seconds: float) -> Iterator[datetime | None]:
        """Be the only one who sends for this application; gives the end (UTC) of the lease, or None where another has it.

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
            yield mine.until
        finally:
            replace(self._path("leases", f"{number:09d}"), _json(_Lease(until=datetime.now(UTC))))

    def _complete(self, told: Alert) -> bool:
        """Do what makes a waiting alert a kept one: all of it may have been done before."""
        condition = _condition(told.condition)
        held = self._read(Open, "open", condition) if told.condition else None
        if told.condition and not told.good:
            replace(self._path("open", condition), _json(held_with(held, told)))
        for superfluous in told.explains:
            create(self._path("kept", superfluous), json.dumps({"explained_by": told.id}).encode())
        first = create(self._path("kept", told.id), _json(told))
        if told.good and held and held.opened == told.opened:
            self._remove("open", condition)
        return first

    def _path(self, *parts: str) -> UPath:
        return self._folder.joinpath(*parts[:-1], f"{parts[-1]}.json")

    def _names(self, *parts: str) -> list[str]:
        names = names_in(self._folder.joinpath(*parts))
        return [name.removesuffix(".json") for name in names if name.endswith(".json")]

    def _content(self, *parts: str) -> bytes | None:
        path = self._path(*parts)
        try:
            return bytes(path.fs.cat_file(path.path))
        except FileNotFoundError:
            return None

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


def _condition(condition: str) -> str:
    return hashlib.sha256(condition.encode()).hexdigest()[:20]


def _json(value: BaseModel) -> bytes:
    return value.model_dump_json(indent=1).encode()
