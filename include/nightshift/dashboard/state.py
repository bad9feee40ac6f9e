"""The state of an application as one word and a reason: a pure function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from nightshift.alerts.alert import Alert
from nightshift.dashboard.freshness import Fresh
from nightshift.dashboard.intervals import JudgedInterval
from nightshift.dashboard.ledger import Retraining
from nightshift.dashboard.models import Model
from nightshift.ledger.records import Monitor
from nightshift.settings.people import Kind, Severity
from nightshift.verdict import Verdict


class Word(StrEnum):
    """The words for states, in order of urgency."""

    UNREADABLE = "unreadable"
    FAILING = "failing"
    WAITING = "waiting"
    NO_DATA = "no data"
    RETRAINING = "retraining"
    WARNING = "warning"
    NEW = "new"
    HEALTHY = "healthy"


@dataclass(frozen=True)
class State:
    """The word, and the reason for it.

    :param others: further states with their first reason, the most important first.
    """

    word: Word
    reason: str
    others: Mapping[Word, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StateInput:
    """The input of :func:`state_of`.

    :param judged: the newest judged intervals of each monitor, in order.
    :param waits: what waits for a person, as text.
    :param alerts: severity and title of each open condition.
    :param stale: partitions that are too old.
    """

    judged: Mapping[Monitor, Sequence[JudgedInterval]]
    champion: Model | None
    retraining: Retraining | None = None
    waits: Sequence[str] = ()
    alerts: Sequence[tuple[Severity, str]] = ()
    stale: Sequence[Fresh] = ()


def without_approvals(alerts: Sequence[Alert], waits: Sequence[str]) -> list[Alert]:
    """Return the alerts without those about approvals, if `waits` already names these."""
    return [alert for alert in alerts if not (waits and alert.kind is Kind.APPROVAL_WAITS)]


def state_of(given: StateInput) -> State:
    """Return the most urgent state of an application, with the others."""
    first, *rest = _states(given)
    others: dict[Word, str] = {}
    for state in rest:
        if state.word not in {first.word, Word.HEALTHY}:
            others.setdefault(state.word, state.reason)
    return State(first.word, first.reason, others)


def _states(given: StateInput) -> Iterator[State]:
    """All states that apply, the most urgent first: an outage, open requests, activity, and the rest."""
    last = {monitor: judged[-1] for monitor, judged in given.judged.items() if judged}
    for severity, title in given.alerts:
        if severity is Severity.CRITICAL:
            yield State(Word.FAILING, title)
    if given.waits:
        yield State(Word.WAITING, given.waits[0])
    if given.retraining:
        yield State(Word.RETRAINING, f"retraining {given.retraining.order.number} {given.retraining.doing}")
    # As the policy sees it: intervals before a release say nothing about the model that is in use since.
    before = {monitor: interval for monitor, interval in last.items() if _is_before(interval, given.champion)}
    of_champion = {monitor: interval for monitor, interval in last.items() if monitor not in before}
    yield from _states_of(of_champion, {Verdict.FAIL, Verdict.ERROR}, Word.FAILING)
    if given.champion is None:
        yield State(Word.NEW, "there is no champion yet: run finetune, then release")
    if not last:
        yield State(Word.NEW, "no interval was judged yet: the first comes after batch_inference has answered one")
    for fresh in given.stale:
        if fresh.kind != "examples":  # missing examples do not affect answers
            yield State(Word.NO_DATA, f"{fresh.kind}: {fresh.stale}")
    yield from _states_of(of_champion, {Verdict.INSUFFICIENT_DATA}, Word.NO_DATA)
    yield from _states_of(of_champion, {Verdict.WARN}, Word.WARNING)
    for monitor, interval in before.items():
        yield State(Word.WARNING, _replaced(monitor, interval, given.champion))
    for severity, title in given.alerts:
        if severity is not Severity.CRITICAL:
            yield State(Word.WARNING, title)
    yield State(
        Word.HEALTHY, "; ".join(f"{monitor} of {judged.name} {judged.verdict}" for monitor, judged in last.items())
    )


def _is_before(interval: JudgedInterval, champion: Model | None) -> bool:
    return champion is not None and (interval.model_digest != champion.digest or interval.created < champion.since)


def _replaced(monitor: Monitor, interval: JudgedInterval, champion: Model | None) -> str:
    assert champion is not None  # noqa: S101  (else nothing was replaced)
    return (
        f"version {champion.version} is the champion since {champion.since:%Y-%m-%d %H:%M} UTC, and no interval of it has a "
        f"verdict on {monitor} yet; {interval.name} was {interval.verdict} with version {interval.model_version}"
    )


def _states_of(last: Mapping[Monitor, JudgedInterval], verdicts: set[Verdict], word: Word) -> Iterator[State]:
    for monitor, interval in last.items():
        if interval.verdict in verdicts:
            reason = interval.reasons[0] if interval.reasons else "no reason was recorded"
            yield State(word, f"{monitor} of {interval.name} {interval.verdict}: {reason}")
