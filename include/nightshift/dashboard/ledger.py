"""The decisions about an application: the ledger as one history, the newest first."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from nightshift.dashboard.stored import Store
from nightshift.ledger.index import NUMBERED
from nightshift.ledger.policy import WEEK
from nightshift.ledger.records import (
    DECIDING,
    Answer,
    Claim,
    Decision,
    GateRecord,
    Order,
    Outcome,
    Request,
    Snooze,
    Split,
    SplitLook,
)  # fmt: skip
from nightshift.ledger.splits import running, share_of
from nightshift.ledger.store import Ledger
from nightshift.verdict import Verdict

SHOWN = 60  # newest entries of the history
NEWEST_ORDERS = NEWEST_REQUESTS = 30


@dataclass(frozen=True)
class Retraining:
    """An order with its claim and outcome; a claim without a run means that the order was given up."""

    order: Order
    claim: Claim | None
    outcome: Outcome | None

    @property
    def doing(self) -> str:
        """Its current status as text."""
        if self.outcome:
            return f"{self.outcome.result}: {self.outcome.explanation}"
        if self.claim and self.claim.run_id:
            return f"is being trained by {self.claim.run_id}"
        return "waits for finetune"


@dataclass(frozen=True)
class Asked:
    """An approval request and its answer; None: open."""

    request: Request
    answer: Answer | None


@dataclass(frozen=True)
class Entry:
    """One line of the history: what happened, when, by whom and why."""

    when: datetime
    what: str  # such as "order 3", "gate: FAIL"
    by: str
    why: str
    verdict: Verdict | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    run: tuple[str, str] | None = None  # DAG and run


@dataclass(frozen=True)
class Story:
    """The newest entries, and how many decisions there are in all."""

    entries: list[Entry]
    decisions: int


def retrainings(records: Ledger, most: int = NEWEST_ORDERS) -> list[Retraining]:
    """Return the newest retrainings, in order.

    :raises BadInput: a record cannot be read.
    """
    known = records.index(*NUMBERED)
    found = [
        Retraining(order, known.claims.get(number), known.outcomes.get(number))
        for number, order in known.orders.items()
    ]
    return found[-most:]


def open_retraining(known: list[Retraining]) -> Retraining | None:
    """Return the retraining without an outcome, if there is one."""
    return next((one for one in known if one.outcome is None), None)


def this_week(known: list[Retraining], now: datetime) -> tuple[int, float]:
    """Return how many trainings started in the last seven days, and the hours of those that ended in that time."""
    started = sum(bool(one.claim and one.claim.run_id and now - one.claim.claimed < WEEK) for one in known)
    hours = sum(one.outcome.hours for one in known if one.outcome and now - one.outcome.ended < WEEK)
    return started, hours


def snoozed(records: Ledger, now: datetime) -> Snooze | None:
    """Return the active snooze, if there is one."""
    newest = records.snooze()
    return newest if newest and newest.until > now else None


def requests(records: Ledger) -> list[Asked]:
    """Return the newest approval requests, in order of time.

    :raises BadInput: a record cannot be read.
    """
    asked = records.requests()
    answers = records.answers(asked)
    return [Asked(request, answers.get(name)) for name, request in asked.items()][-NEWEST_REQUESTS:]


def story(store: Store, records: Ledger, known: list[Retraining], asked: list[Asked]) -> Story:
    """Return the newest decisions, the newest first.

    :raises BadInput: a record cannot be read.
    """
    names = [name for name in store.names("ledger", "decisions") if name[0].isdigit()]  # forced ones are in their order
    decisions = [kept for name in names[-SHOWN:] if (kept := store.model(Decision, "ledger", "decisions", name))]
    # Of entries with the same time the consequence comes first, as newer entries do.
    entries = [
        *(
            Entry(one.released, f"release of version {one.version}", "release", "is the champion")
            for one in records.releases()
        ),
        *(entry for one in asked for entry in reversed(_asked(one))),
        *(_gate(record) for record in records.gate_records()),
        *(entry for one in known for entry in reversed(_retraining(one))),
        *(_decided(decision) for decision in decisions),
        *(_asleep(one) for one in records.snoozes()),
        *(entry for one in records.splits() for entry in reversed(_split(records, one))),
    ]
    entries.sort(key=lambda entry: entry.when, reverse=True)
    return Story(entries[:SHOWN], len(names))


def split_now(records: Ledger) -> tuple[Split, float, SplitLook | None] | None:
    """Return the running split, the share of its challenger, and the newest look at it; None: no split runs."""
    split = running(records)
    return (split, share_of(records, split), next(reversed(records.looks(split.number)), None)) if split else None


def _split(records: Ledger, split: Split) -> list[Entry]:
    """The start of a split, the changes of its share, and its end."""
    what, by, end = f"split {split.number}", "split", records.split_end(split.number)
    shares = " → ".join(f"{share:.0%}" for share in split.settings.shares)
    began = f"version {split.version} beside version {split.champion}: {shares} of the traffic"
    entries = [Entry(split.started, f"{what} began", by, began)]
    looks = [look for look in records.looks(split.number) if look.action == "step"]
    entries += [Entry(look.decided, f"{what}: next share", by, look.reason, numbers=look.numbers) for look in looks]
    if end:
        entries.append(Entry(end.ended, f"{what} {end.result}", end.by if end.run_id else by, end.explanation))
    return entries


def _decided(decision: Decision) -> Entry:
    what = f"interval {_interval(decision)}: {'retrain' if decision.action == 'retrain' else 'no retraining'}"
    return Entry(decision.decided, what, decision.by, decision.reason, numbers=decision.numbers)


def _interval(decision: Decision) -> str:
    """The interval that a decision follows from: its id ends with the report's digest."""
    return decision.id.rpartition("-")[0]


def _retraining(one: Retraining) -> list[Entry]:
    order, number = one.order, one.order.number
    by_person = order.decision.by != "policy"
    why = order.decision.reason if by_person else f"by the decision about interval {_interval(order.decision)}"
    entries = [Entry(order.created, f"order {number}", order.decision.by, why)]
    if one.claim:
        run = (one.claim.dag_id, one.claim.run_id) if one.claim.run_id else None
        doing = f"{one.claim.run_id} trains for it" if run else "given up: no run claimed it in time"
        entries.append(
            Entry(one.claim.claimed, f"claim of order {number}", one.claim.dag_id or "policy", doing, run=run)
        )
    if one.outcome:
        ended = one.outcome
        run = (one.claim.dag_id, ended.run_id) if one.claim and ended.run_id else None
        entries.append(
            Entry(ended.ended, f"order {number} {ended.result}", "close", ended.explanation, ended.verdict, run=run)
        )
    return entries


def _asleep(one: Snooze) -> Entry:
    what = "snooze" if one.until > one.created + timedelta(seconds=1) else "end of the snooze"
    return Entry(one.created, what, one.by, f"until {one.until:%Y-%m-%d %H:%M} UTC: {one.reason}")


def _gate(record: GateRecord) -> Entry:
    done = "released" if record.released else "put to people" if record.request else "held"
    reasons = "; ".join(record.reasons)
    by_itself = record.by in DECIDING and not record.person
    why = reasons if by_itself else f"{record.by} (the gate: {reasons})"
    by = record.person or (record.by if by_itself else "a person")
    return Entry(record.decided, f"version {record.version} {done}", by, why, record.verdict, record.numbers)


def _asked(one: Asked) -> list[Entry]:
    request, answer = one.request, one.answer
    run = (request.dag_id, request.run_id)
    who = ", ".join(request.approvers) or "all users whose role may approve"
    why = f"{request.subject}. Asked: {who}, until {request.until:%Y-%m-%d %H:%M} UTC"
    entries = [Entry(request.asked, f"approval of version {request.version} asked", request.asked_by or "release", why,
                     request.verdict, run=run)]  # fmt: skip
    if answer:
        entries.append(
            Entry(answer.answered, f"version {request.version} {answer.answer}", answer.by or "nobody",
                  answer.reason or "no reason given", run=run)
        )  # fmt: skip
    return entries
