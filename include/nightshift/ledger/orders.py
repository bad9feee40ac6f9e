"""The ledger: every decision about a retraining, and each retraining from its order to its outcome, exactly once.

Events are lost and doubled and schedulers come in pairs; storage decides. An order takes the next number, and only while
every order before it has an outcome: so there is at most one open retraining, whoever asks and however often. An order is
claimed by one DAG run, which trains for it, and is closed whatever came out. Every step may be killed and taken again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from nightshift.errors import BadInput
from nightshift.ledger.history import history
from nightshift.ledger.index import NUMBERED
from nightshift.ledger.policy import History, decide
from nightshift.ledger.records import Claim, Decision, MonitoredInterval, Order, Outcome
from nightshift.ledger.spending import bounds_now
from nightshift.ledger.store import Ledger
from nightshift.settings.application import Application


def decision_id(monitored: MonitoredInterval) -> str:
    """The id of the decision that follows from one report about one interval: `<interval>-<digest of the report>`."""
    return f"{monitored.interval}-{monitored.report_digest[:12]}"


# Whether the run of a claim is queued or running; of None, any run of the DAG that claims orders.
Lives = Callable[[Claim | None], bool]


def no_run_lives(_claim: Claim | None) -> bool:
    """The answer where no Airflow can be asked: only the hours tell that an order is lost."""
    return False


def evaluate(
    application: Application, ledger: Ledger, monitored: MonitoredInterval, now: datetime, lives: Lives = no_run_lives
) -> Decision:
    """Decide after an interval about a retraining, order it where the policy says so, and keep the decision.

    The same report about the same interval always leads to the same decision, also after a kill between the order and the
    record of the decision. Orders that were lost are closed first.

    :raises BadInput: a record or a manifest cannot be read.
    :raises BadEnvironment: storage cannot be reached, or cannot create files atomically.
    """
    wanted = decision_id(monitored)
    close_lost(ledger, now, application.retraining.lost_after_hours, lives)
    if decision := ledger.decision(wanted):
        return decision
    while True:
        known = history(ledger, monitored, now)
        # Another process may have ordered for this interval since the first look; its order is in this history.
        if decision := _ordered(known, wanted):
            return _keep(ledger, decision)
        hosted = application.inference.hosted
        budget = bounds_now(ledger, application.budget, now)
        known = known.model_copy(update={"hosted": hosted.url if hosted else "", "budget": budget})
        decision = decide(known, application.retraining).model_copy(update={"id": wanted})
        if decision.action == "none":
            return _keep(ledger, decision)
        if order := _order(ledger, known, decision):
            return _keep(ledger, order.decision)


def force(ledger: Ledger, order_id: str, *, reason: str, by: str, now: datetime) -> Decision | None:
    """Order a retraining because a person says so, past every bound but one: None while an order is open.

    :param order_id: identifies the wish, so that a retried job orders once.
    """
    releases = ledger.releases()
    champion = releases[-1].model_digest if releases else ""
    while True:
        read = ledger.index(*NUMBERED)
        known = History(now=now, champion=champion, orders=read.orders, outcomes=read.outcomes)
        if decision := ledger.decision(order_id) or _ordered(known, order_id):
            return _keep(ledger, decision)
        if set(known.orders) - set(known.outcomes):
            return None
        decision = Decision(
            id=order_id,
            action="retrain",
            code="forced",
            reason=f"{by} forced it: {reason}",
            model_digest=champion,
            by=by,
            decided=now,
        )
        if order := _order(ledger, known, decision):
            return _keep(ledger, order.decision)


def open_order(ledger: Ledger) -> Order | None:
    """Return the order that has no outcome yet, if there is one."""
    known = ledger.index(*NUMBERED)
    return next((order for number, order in known.orders.items() if number not in known.outcomes), None)


def claim(ledger: Ledger, dag_id: str, run_id: str, now: datetime) -> tuple[Order | None, str]:
    """Return the order that this DAG run is to train for, and what is to be said about it.

    Of many runs that ask, one gets an order, and gets it again when it asks again. A run that a person started over
    after its training failed trains for its order again; one whose model was registered has nothing left to do.
    """
    known = ledger.index(*NUMBERED)
    orders, claims, ended = known.orders, known.claims, known.outcomes
    for number, order in reversed(orders.items()):
        mine = claims.get(number)
        if mine and (mine.dag_id, mine.run_id) == (dag_id, run_id):
            if number in ended and ended[number].result == "registered":
                return (
                    None,
                    f"retraining {number}, which this run trained for, has its model: {ended[number].explanation}",
                )
            return order, order.decision.reason
    for number, order in orders.items():
        if number in ended:
            continue
        if ledger.create(Claim(number=number, dag_id=dag_id, run_id=run_id, claimed=now)):
            return order, order.decision.reason
        other = ledger.claim(number)
        if other and (other.dag_id, other.run_id) == (dag_id, run_id):  # it was written, and the answer lost on the way
            return order, order.decision.reason
        return (
            None,
            f"retraining {number} is the work of {other.run_id if other and other.run_id else 'nobody: it is lost'}",
        )
    return None, "no retraining is ordered"


def unregistered(ledger: Ledger, now: datetime, within: timedelta) -> tuple[Order, Outcome] | None:
    """Return the newest order that ended, when its model was trained and could not be registered, not long ago.

    :param within: how long ago the first order with this model may have failed: one that can never be registered is given up.
    """
    known = ledger.index(*NUMBERED)
    orders, ended = known.orders, known.outcomes
    if not ended:
        return None
    outcome = ended[max(ended)]
    if outcome.result != "failed" or not outcome.model:
        return None
    first = min(one.ended for one in ended.values() if one.model == outcome.model)
    return (orders[outcome.number], outcome) if now - first < within else None


def close(ledger: Ledger, outcome: Outcome) -> Outcome:
    """Keep how an order ended, and return what is kept.

    The first outcome stays, but for one case: a model that was registered after all (the run was given up for lost, or a
    person started it over) replaces what was said before.
    """
    if outcome.number not in ledger.orders():
        raise BadInput(f"there is no order {outcome.number} to close")
    if ledger.create(outcome):
        return outcome
    earlier = ledger.outcome(outcome.number)
    if outcome.result == "registered" and earlier and earlier.result != "registered":
        ledger.replace(outcome)
        return outcome
    return earlier or outcome


def give_up(ledger: Ledger, wish: str, *, reason: str, by: str, now: datetime) -> Outcome | None:
    """End the open order because a person says so, and return how it ended; None where no order is open.

    An order that no run has claimed is claimed first, so that none can begin to train for it in that moment. A run that
    trains for it is not ended by this; a model that it registers later still counts.

    :param wish: identifies the wish, so that a task that is tried again answers the same.
    """
    ended = ledger.index(*NUMBERED).outcomes.values()
    if done := next((outcome for outcome in ended if outcome.wish == wish), None):
        return done
    order = open_order(ledger)
    if order is None:
        return None
    ledger.create(Claim(number=order.number, claimed=now))
    taken = ledger.claim(order.number)
    return close(
        ledger,
        Outcome(
            number=order.number,
            result="cancelled",
            explanation=f"{by} gave it up: {reason}",
            run_id=taken.run_id if taken else "",
            wish=wish,
            ended=now,
        ),
    )


def close_lost(ledger: Ledger, now: datetime, lost_after_hours: float, lives: Lives = no_run_lives) -> list[Outcome]:
    """Close orders that nobody claimed, and claimed ones that nobody closed, for longer than `lost_after_hours`.

    None is lost while a run lives that trains for it, or that has to end before another can claim it: it may wait for days
    until a pool has a slot for its training.

    Whoever gives up an unclaimed order claims it first, so that no run can begin to train for it in that moment.
    """
    limit = timedelta(hours=lost_after_hours)
    known = ledger.index(*NUMBERED)
    orders, claims, ended = known.orders, known.claims, known.outcomes
    lost = []
    for number, order in orders.items():
        if number in ended:
            continue
        taken = claims.get(number)
        if now - (taken.claimed if taken and taken.run_id else order.created) < limit:
            continue
        if lives(taken):
            continue
        if taken is None and not ledger.create(Claim(number=number, claimed=now)):
            continue
        waited = f"for more than {lost_after_hours:g} hours"
        told = f"{taken.run_id} did not end it {waited}" if taken and taken.run_id else f"no run claimed it {waited}"
        outcome = Outcome(
            number=number, result="lost", explanation=told, run_id=taken.run_id if taken else "", ended=now
        )
        lost.append(close(ledger, outcome))
    return lost


def _order(ledger: Ledger, known: History, decision: Decision) -> Order | None:
    """Take the next number for an order; None when it was taken in the meantime, or an order is still open."""
    if set(known.orders) - set(known.outcomes):
        return None
    number = max(known.orders, default=0) + 1
    decision = decision.model_copy(update={"order": number})
    order = Order(number=number, decision=decision, created=decision.decided)
    return order if ledger.create(order) else None


def _ordered(known: History, wanted: str) -> Decision | None:
    """The decision with this id, from the order that followed from it."""
    return next((order.decision for order in known.orders.values() if order.decision.id == wanted), None)


def _keep(ledger: Ledger, decision: Decision) -> Decision:
    """Keep a decision, or return the one that another process kept under its id. An order outranks a "no"."""
    if ledger.create(decision):
        return decision
    earlier = ledger.decision(decision.id) or decision
    if decision.order and not earlier.order:
        ledger.replace(decision)
        return decision
    return earlier
