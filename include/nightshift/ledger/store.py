"""The ledger's records in storage: JSON files below `<storage>/<app>/ledger`.

    decisions/<night>-<digest of its report>.json   every evaluation, also "no"
    orders/<number>.json                            a retraining that is to happen
    claims/<number>.json                            the DAG run that trains for it
    outcomes/<number>.json                          how it ended
    snoozes/<id>.json                               until when nothing is ordered
    releases/<number>.json                          that a model becomes the champion
    requests/<id>.json                              a release that is put to people
    answers/<id>.json                               what they said

What the gate said lies beside them (`gate_records.py`). Where it matters who is first, storage decides: of two writers of
one name exactly one wins (:func:`nightshift.storage.files.create`). Outcomes and decisions may be replaced. Folders are listed
and files read past every cache of the storage client, because other processes write them too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from pydantic import ValidationError
from upath import UPath

from nightshift.errors import BadInput
from nightshift.ledger.records import Answer, Claim, Decision, Order, Outcome, Record, Release, Request, Snooze
from nightshift.storage.files import create, names_in, replace
from nightshift.storage.partition import partition_of

RECENT_ORDERS = 100  # as many as the policy allows in a week, the longest that it counts
RECENT_REQUESTS = 100
BY_MODEL = 16  # characters of the name of a release that an earlier version wrote: of its model's digest

SomeRecord = TypeVar("SomeRecord", bound=Record)


class Ledger:
    """The records of one application.

    :raises BadInput: a record cannot be read (every method that reads).
    """

    def __init__(self, storage: str, application: str) -> None:
        self._folder = partition_of(storage, application, "ledger")

    def decision(self, decision_id: str) -> Decision | None:
        """Return the decision with this id."""
        return self._read("decisions", decision_id, Decision)

    def decisions(self) -> list[Decision]:
        """Return every decision, in order of time."""
        return sorted(self._all("decisions", Decision), key=lambda decision: decision.decided)

    def orders(self) -> dict[int, Order]:
        """Return the newest 100 orders by number; those before have long ended."""
        numbers = sorted(_numbers(self._names("orders")))[-RECENT_ORDERS:]
        return {number: order for number in numbers if (order := self._read("orders", _name(number), Order))}

    def claims(self, orders: dict[int, Order]) -> dict[int, Claim]:
        """Return the claims on these orders."""
        known = set(orders) & set(_numbers(self._names("claims")))
        return {number: claim for number in sorted(known) if (claim := self._read("claims", _name(number), Claim))}

    def outcomes(self, orders: dict[int, Order]) -> dict[int, Outcome]:
        """Return the outcomes of these orders."""
        known = set(orders) & set(_numbers(self._names("outcomes")))
        return {number: end for number in sorted(known) if (end := self._read("outcomes", _name(number), Outcome))}

    def claim(self, number: int) -> Claim | None:
        """Return the claim on an order."""
        return self._read("claims", _name(number), Claim)

    def outcome(self, number: int) -> Outcome | None:
        """Return how an order ended."""
        return self._read("outcomes", _name(number), Outcome)

    def snooze(self) -> Snooze | None:
        """Return the newest snooze, whether it is over or not."""
        return max(self._all("snoozes", Snooze), key=lambda snooze: snooze.created, default=None)

    def releases(self) -> list[Release]:
        """Return the releases in order, the newest last.

        An earlier version named them by the model that was released; these come first, numbered in order of time.
        """
        names = self._names("releases")
        by_model = [
            found for name in names if len(name) == BY_MODEL and (found := self._read("releases", name, Release))
        ]
        by_model.sort(key=lambda release: release.released)
        numbered = [
            found for name in names if len(name) != BY_MODEL and (found := self._read("releases", name, Release))
        ]
        earlier = [one.model_copy(update={"number": number}) for number, one in enumerate(by_model, start=1)]
        return [*earlier, *sorted(numbered, key=lambda release: release.number)]

    def newest_release(self) -> Release | None:
        """Return the newest release, or None where there was none."""
        return next(reversed(self.releases()), None)

    def requests(self) -> dict[str, Request]:
        """Return the newest 100 requests by id, in order of time."""
        names = self._names("requests")[-RECENT_REQUESTS:]
        return {name: found for name in names if (found := self._read("requests", name, Request))}

    def answers(self, requests: Iterable[str]) -> dict[str, Answer]:
        """Return the answers to these requests, by id."""
        known = set(requests) & set(self._names("answers"))
        return {name: found for name in sorted(known) if (found := self._read("answers", name, Answer))}

    def request(self, request_id: str) -> Request | None:
        """Return the request with this id."""
        return self._read("requests", request_id, Request)

    def answer(self, request_id: str) -> Answer | None:
        """Return the answer to a request."""
        return self._read("answers", request_id, Answer)

    def create(self, record: Decision | Order | Claim | Outcome | Snooze | Release | Request | Answer) -> bool:
        """Keep a record unless there is one of its name; return whether this call wrote it."""
        return create(self._path(record), _content(record))

    def replace(self, record: Decision | Outcome) -> None:
        """Keep a record in place of an earlier one."""
        replace(self._path(record), _content(record))

    def _path(self, record: Record) -> UPath:
        match record:
            case Decision() | Snooze() | Request() | Answer():
                folder, name = f"{type(record).__name__.lower()}s", record.id
            case Order() | Claim() | Outcome() | Release():
                folder, name = f"{type(record).__name__.lower()}s", _name(record.number)
            case _:
                raise TypeError(f"the ledger does not keep {type(record).__name__}")
        return self._folder / folder / f"{name}.json"

    def _names(self, folder: str) -> list[str]:
        return [name.removesuffix(".json") for name in names_in(self._folder / folder) if name.endswith(".json")]

    def _all(self, folder: str, model: type[SomeRecord]) -> Iterator[SomeRecord]:
        for name in self._names(folder):
            if record := self._read(folder, name, model):
                yield record

    def _read(self, folder: str, name: str, model: type[SomeRecord]) -> SomeRecord | None:
        path = self._folder / folder / f"{name}.json"
        try:
            content = path.fs.cat_file(path.path)
        except FileNotFoundError:
            return None
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            raise BadInput(f"{path}: not a record of the ledger: {error}") from error


def _content(record: Record) -> bytes:
    return record.model_dump_json(indent=1).encode()


def _name(number: int) -> str:
    return f"{number:04d}"


def _numbers(names: list[str]) -> Iterator[int]:
    return (int(name) for name in names if name.isdigit())
