"""The ledger's records in storage: JSON files below `<storage>/<app>/ledger`.

    decisions/<interval>-<digest of report>.json    every evaluation, also "no"
    orders/<number>.json                            a retraining that is to happen
    claims/<number>.json                            the DAG run that trains for it
    outcomes/<number>.json                          how it ended
    snoozes/<id>.json                               until when nothing is ordered
    responses/<condition>-<number>-<run>.json       who acknowledged or silenced a condition of the alerts
    releases/<number>.json                          that a model becomes the champion
    requests/<id>.json                              a release that needs an approval
    answers/<id>.json                               the answer to a request
    gate/<id>.json                                  a decision of the gate, or of a person, about a candidate
    erasures/<number>.json                          an order to erase rows
    erased/<number>.json                            the completion of an erasure
    splits/<number>.json                            a split of the traffic between candidate and champion
    arms/<interval>.json                            the challenger's share of an interval, fixed before it is answered
    looks/<split>-<number>.json                     the decision about a split after an interval
    ends/<number>.json                              how a split ended

Lists of all but the decisions, responses and arms come from the index (`index.py`): records are announced before they are
written.
Of two writers of one name exactly one wins (:func:`nightshift.storage.files.create`). Only outcomes and decisions may be
replaced.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable

from upath import UPath

from nightshift.ledger.index import Index, write_index
from nightshift.ledger.index_files import SomeRecord, read_arrivals, read_index, record_of
from nightshift.ledger.records import (
    AlertResponse,
    Answer,
    Claim,
    Decision,
    Erased,
    Erasure,
    GateRecord,
    IntervalArms,
    Order,
    Outcome,
    Record,
    Release,
    Request,
    Snooze,
    Split,
    SplitEnd,
    SplitLook,
)  # fmt: skip
from nightshift.storage.arrivals import announce
from nightshift.storage.erasures import ENDED, ORDERED, record_at
from nightshift.storage.files import create, names_in, read_bytes, replace
from nightshift.storage.partition import partition_of

BY_MODEL = 16  # length of a release's name in older versions: the start of its model's digest


class Ledger:
    """The records of one application, whose folder in storage is `home`.

    :raises BadInput: a record cannot be read (every method that reads).
    """

    def __init__(self, storage: str, application: str) -> None:
        self.home = partition_of(storage, application)
        self._written: Index | None = None
        self._known: Index | None = None
        self._reading = threading.Lock()  # pages read in several threads

    def index(self, *folders: str) -> Index:
        """Return the current index, with one storage call if nothing arrived since the last time.

        :param folders: folders in which every record must be readable.
        :raises BadInput: a record is unreadable.
        """
        with self._reading:
            if self._known is None:
                self._written, self._known = read_index(self.home)
            else:
                self._known = read_arrivals(self.home, self._known)
            known = self._known
        known.require(*folders)
        return known

    def keep_index(self) -> None:
        """Write the index if it changed, so that readers have fewer arrivals to read."""
        known = self.index()
        if known is not self._written:
            write_index(self.home, known)
            self._written = known

    def decision(self, decision_id: str) -> Decision | None:
        """Return the decision with this id."""
        return self._read("decisions", decision_id, Decision)

    def decisions(self) -> list[Decision]:
        """Return every decision, in order of time."""
        names = [name.removesuffix(".json") for name in names_in(self.home / "ledger" / "decisions")]
        found = [decision for name in names if (decision := self._read("decisions", name, Decision))]
        return sorted(found, key=lambda decision: decision.decided)

    def orders(self) -> dict[int, Order]:
        """Return the newest 100 orders by number; those before have long ended."""
        return self.index("orders").orders

    def claim(self, number: int) -> Claim | None:
        """Return the claim on an order."""
        return self._read("claims", _name(number), Claim)

    def outcome(self, number: int) -> Outcome | None:
        """Return the outcome of an order."""
        return self._read("outcomes", _name(number), Outcome)

    def snoozes(self) -> list[Snooze]:
        """Return the newest 100 snoozes in order of time."""
        return sorted(self.index("snoozes").snoozes.values(), key=lambda snooze: snooze.created)

    def snooze(self) -> Snooze | None:
        """Return the newest snooze, whether it is over or not."""
        return next(reversed(self.snoozes()), None)

    def releases(self) -> list[Release]:
        """Return the releases in order, the newest last.

        Those of older versions, which named them by model, come first, numbered in order of time.
        """
        known = self.index("releases").releases
        by_model = sorted((one for name, one in known.items() if len(name) == BY_MODEL), key=lambda one: one.released)
        numbered = sorted((one for name, one in known.items() if len(name) != BY_MODEL), key=lambda one: one.number)
        return [*(one.model_copy(update={"number": number}) for number, one in enumerate(by_model, start=1)), *numbered]

    def newest_release(self) -> Release | None:
        """Return the newest release, or None if there was none."""
        return next(reversed(self.releases()), None)

    def requests(self) -> dict[str, Request]:
        """Return the newest 100 requests by id, in order of time."""
        return dict(sorted(self.index("requests").requests.items()))

    def answers(self, requests: Iterable[str]) -> dict[str, Answer]:
        """Return the answers to these requests, by id."""
        return {name: answer for name, answer in sorted(self.index("answers").answers.items()) if name in requests}

    def request(self, request_id: str) -> Request | None:
        """Return the request with this id."""
        return self._read("requests", request_id, Request)

    def answer(self, request_id: str) -> Answer | None:
        """Return the answer to a request."""
        return self._read("answers", request_id, Answer)

    def responses(self, conditions: Iterable[str]) -> dict[str, AlertResponse]:
        """Return the newest response to each of these alert conditions that has one: one listing, and one read for each."""
        newest = {name.partition("-")[0]: name for name in names_in(self.home / "ledger" / "responses")}
        found = {condition: newest.get(condition_key(condition), "") for condition in conditions}
        names = {condition: name.removesuffix(".json") for condition, name in found.items() if name}
        read = {condition: self._read("responses", name, AlertResponse) for condition, name in names.items()}
        return {condition: response for condition, response in read.items() if response}

    def respond(self, response: AlertResponse, request: str) -> AlertResponse:
        """Record a response as the newest to its condition, once for each request, and return it with its id.

        :param request: identifies a person's request, so that a retried task records it once.
        """
        key = condition_key(response.condition)
        own = [name for name in names_in(self.home / "ledger" / "responses") if name.startswith(f"{key}-")]
        if mine := next((name for name in own if name.endswith(f"-{request}.json")), None):
            return self._read("responses", mine.removesuffix(".json"), AlertResponse) or response
        number = int(own[-1].split("-")[1]) + 1 if own else 1
        kept = response.model_copy(update={"id": f"{key}-{number:06d}-{request}"})
        self.create(kept)
        return kept

    def erasure(self, number: int) -> Erasure | None:
        """Return the erasure of this number."""
        return self._read(ORDERED, f"{number:06d}", Erasure)

    def erased(self, number: int) -> Erased | None:
        """Return the completion of this erasure, or None if it has not ended."""
        return self._read(ENDED, f"{number:06d}", Erased)

    def gate_record(self, record_id: str) -> GateRecord | None:
        """Return the gate record with this id."""
        return self._read("gate", record_id, GateRecord)

    def gate_records(self) -> list[GateRecord]:
        """Return the newest 100 gate records, in order of time."""
        return sorted(self.index("gate").gate.values(), key=lambda record: (record.decided, record.version))

    def splits(self) -> list[Split]:
        """Return the newest 100 splits in order."""
        return [split for _, split in sorted(self.index("splits").splits.items())]

    def split_end(self, number: int) -> SplitEnd | None:
        """Return how a split ended; None: it runs."""
        return self.index("ends").ends.get(_name(number))

    def looks(self, split: int) -> list[SplitLook]:
        """Return the newest looks at a split, in order; 100 of all splits are kept."""
        return [look for _, look in sorted(self.index("looks").looks.items()) if look.split == split]

    def arms(self, interval: str) -> IntervalArms | None:
        """Return the challenger's share of an interval; None: the interval is not split."""
        return self._read("arms", interval, IntervalArms)

    def create(self, record: Record) -> bool:
        """Write a record unless its name exists; return whether this call wrote it."""
        path = self._announced(record)
        return create(path, _content(record))

    def replace(self, record: Decision | Outcome) -> None:
        """Write a record in place of an earlier one."""
        path = self._announced(record, _content(record))
        replace(path, _content(record))

    def _announced(self, record: Record, content: bytes | None = None) -> UPath:
        """Announce that a record is about to be written, and return its path."""
        match record:
            case Decision():
                return self.home / "ledger" / "decisions" / f"{record.id}.json"
            case Snooze() | Request() | Answer():
                folder, name = f"{type(record).__name__.lower()}s", record.id
            case AlertResponse():
                return self.home / "ledger" / "responses" / f"{record.id}.json"
            case Erasure():
                return record_at(self.home, ORDERED, record.number)
            case Erased():
                return record_at(self.home, ENDED, record.number)
            case IntervalArms():
                return self.home / "ledger" / "arms" / f"{record.interval}.json"
            case Order() | Claim() | Outcome() | Release() | Split():
                folder, name = f"{type(record).__name__.lower()}s", _name(record.number)
            case SplitLook():
                folder, name = "looks", f"{_name(record.split)}-{_name(record.number)}"
            case SplitEnd():
                folder, name = "ends", _name(record.number)
            case GateRecord():
                folder, name = "gate", record.id
            case _:
                raise TypeError(f"the ledger does not keep {type(record).__name__}")
        announce(self.home, f"ledger/{folder}/{name}.json", content)
        return self.home / "ledger" / folder / f"{name}.json"

    def _read(self, folder: str, name: str, model: type[SomeRecord]) -> SomeRecord | None:
        path = self.home / "ledger" / folder / f"{name}.json"
        content = read_bytes(path)
        return record_of(path, content, model) if content is not None else None


def condition_key(condition: str) -> str:
    """Return the name of an alert condition in storage: a digest, since a condition may contain any text."""
    return hashlib.sha256(condition.encode()).hexdigest()[:20]


def _content(record: Record) -> bytes:
    return record.model_dump_json(indent=1).encode()


def _name(number: int) -> str:
    return f"{number:04d}"
