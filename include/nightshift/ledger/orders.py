"""The ledger: every decision about a retraining, and each retraining from its order to its outcome, exactly once.

Events may be lost or doubled, and schedulers may run twice; create-if-absent in storage decides. An order takes the next
number, and only once every order before it has an outcome, so that at most one retraining is open. One DAG run claims an order,
trains for it, and closes it, whatever the result. Every step can be repeated after a kill.
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
    """The default without access to Airflow: an order is lost only by its age."""
    return False


def evaluate(
    application: Application, ledger: Ledger, monitored: MonitoredInterval, now: datetime, lives: Lives = no_run_lives
) -> Decision:
    """Decide after an interval about a retraining, order it if the policy says so, and record the decision.

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
    """Order a retraining at a person's request, past every bound but one: None while an order is open.

    :param order_id: identifies the request, so that a retried task orders once.
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
    """Return the order without an outcome, if there is one."""
    known = ledger.index(*NUMBERED)
    return next((order for number, order in known.orders.items() if number not in known.outcomes), None)


def claim(ledger: Ledger, dag_id: str, run_id: str, now: datetime) -> tuple[Order | None, str]:
    """Return the order that this DAG run trains for, with an explanation.

    Only one of several runs gets an order, and gets the same one when it asks again. A run that a person cleared after its
    training failed trains for its order again; a run whose model was registered has nothing left to do.
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
        # Our claim was written, but the response was lost.
        if other and (other.dag_id, other.run_id) == (dag_id, run_id):
            return order, order.decision.reason
        return (
            None,
            f"retraining {number} is the work of {other.run_id if other and other.run_id else 'nobody: it is lost'}",
        )
    return None, "no retraining is ordered"


def unregistered(ledger: Ledger, now: datetime, within: timedelta) -> tuple[Order, Outcome] | None:
    """Return the newest ended order, if its model was recently trained and could not be registered.

    :param within: since the first failure with this model; older ones are given up, as a model that can never be registered.
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
    """Record how an order ended, and return the recorded outcome.

    The first outcome stays, except that a model that was registered later (its run was considered lost, or was cleared by a
    person) replaces it.
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


def give_up(ledger: Ledger, request: str, *, reason: str, by: str, now: datetime) -> Outcome | None:
    """End the open order at a person's request, and return its outcome; None if no order is open.

    An unclaimed order is claimed first, so that no run starts to train for it at the same time. A run that trains for it
    continues; a model that it registers later still counts.

    :param request: identifies the request, so that a retried task gets the same answer.
    """
    ended = ledger.index(*NUMBERED).outcomes.values()
    if done := next((outcome for outcome in ended if outcome.wish == request), None):
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
            wish=request,
            ended=now,
        ),
    )


def close_lost(ledger: Ledger, now: datetime, lost_after_hours: float, lives: Lives = no_run_lives) -> list[Outcome]:
    """Close orders that stayed unclaimed, or claimed and not closed, for longer than `lost_after_hours`.

    An order is not lost while the run that claimed it is active, or while any run is that must end before another can claim
    it: a training may wait for days for a slot of its pool.

    An unclaimed order is claimed before it is closed, so that no run starts to train for it at the same time.
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
    """Create an order with the next number; None if the number was taken in the meantime, or an order is still open."""
    if set(known.orders) - set(known.outcomes):
        return None
    number = max(known.orders, default=0) + 1
    decision = decision.model_copy(update={"order": number})
    order = Order(number=number, decision=decision, created=decision.decided)
    return order if ledger.create(order) else None


def _ordered(known: History, wanted: str) -> Decision | None:
    """The decision with this id, from the order that it caused."""
    return next((order.decision for order in known.orders.values() if order.decision.id == wanted), None)


def _keep(ledger: Ledger, decision: Decision) -> Decision:
    """Record a decision, or return the one that another process recorded under its id. An order outranks a "no"."""
    if ledger.create(decision):
        return decision
    earlier = ledger.decision(decision.id) or decision
    if decision.order and not earlier.order:
        ledger.replace(decision)
        return decision
    return earlier
