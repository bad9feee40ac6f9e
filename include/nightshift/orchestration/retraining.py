"""The tasks around a retraining that only decide: who trains for it, how it ended, and how a person steps in."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from upath import UPath

from nightshift.ledger import orders
from nightshift.ledger.pod_accounts import pods_of_run, run_key, total
from nightshift.ledger.records import Order, Outcome, Snooze
from nightshift.ledger.store import Ledger
from nightshift.orchestration.attempt import results_of, storage_uri
from nightshift.orchestration.deciding import OUTLASTING, deciding, runs_of_finetune, show, tell
from nightshift.shown import storable
from nightshift.storage.manifest import digest_of

NOTHING: dict[str, Any] = {"order": None, "decision": None, "reports": []}

log = logging.getLogger(__name__)


@task(**OUTLASTING)
def due(application: str, unasked: Collection[str], **context: Any) -> dict[str, Any]:
    """Claim the open order for this run, or find that it has it already; without one, go on only where somebody asked.

    A model that the run before trained and could not register is taken up, for its own order or for the next one that drift
    led to. A person who asks for a training gets one of the newest rows.

    :param unasked: the types of runs that nobody asked for: they train only for an order.
    :return: `order` and `decision` (None: it trains without one), `reason`, `reports`, the URIs that led to it, and `model`,
        the URI of one that is trained already.
    :raises AirflowSkipException: nothing is due.
    """
    ti, dag_run = context["ti"], context["dag_run"]
    with deciding(application, context) as (app, ledger):
        now, person = datetime.now(UTC), dag_run.triggering_user_name
        order, told = orders.claim(ledger, ti.dag_id, ti.run_id, now)
        within = timedelta(hours=app.retraining.lost_after_hours)
        left, model = None if person else orders.unregistered(ledger, now, within), None
        if left and (order is None or order.number == left[0].number or order.decision.code != "forced"):
            order, model = order or left[0], left[1].model
            told = (
                f"{order.decision.reason}; {model} was trained for retraining {left[0].number} and was not registered"
            )
        if order is None and dag_run.run_type in unasked:
            reason = f"nothing due: {told}"
            ti.xcom_push("return_value", {**NOTHING, "reason": reason, "model": None})
            raise AirflowSkipException(reason)
        if order is None:
            log.info("%s", told)
            return {**NOTHING, "reason": f"{person or 'the schedule'} asked for a training", "model": None}
        log.info("retraining %d, ordered %s: %s", order.number, f"{order.created:%Y-%m-%d %H:%M} UTC", told)
        for report in order.decision.reports:
            log.info("report: %s", report)
        result = {**_ordered(order, told), "model": model}
        tell(app, "due", result, context)
        return result


@task(**OUTLASTING)
def close(application: str, **context: Any) -> dict[str, Any]:
    """Write down how the retraining of this run ended, so that one that failed or was cancelled blocks nobody.

    It is a teardown: it runs whatever came before, also when a person marks the run as failed. The hours are those of all
    processes. Of a training that left no result they are counted from when it began, which is the most that they can be.

    :return: `order` (None: the run trained for none), `outcome`, `reason` and `hours`.
    :raises AirflowFailException: a person cancelled the run; so it ends as failed, which Airflow would forget.
    """
    ti = context["ti"]
    with deciding(application, context) as (app, ledger):
        number = (ti.xcom_pull(task_ids="due") or {}).get("order")
        got = {name: ti.xcom_pull(task_ids=name) or {} for name in ("snapshot", "train", "evaluate", "register")}
        states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
        ended = _ended(ti.run_id, states, got)
        if number is None:
            result = {"order": None, "outcome": ended["result"], "reason": "it trained for no order", "hours": 0.0}
        else:
            paid = {"hours": 0.0}  # by the retraining whose model it took up
            if _is_new(ledger, number, ended):
                paid = {
                    "hours": _hours(app.name, ti, got["train"], context["params"]),
                    **_used(app.name, ti, context["dag_run"].start_date),
                }
            outcome = orders.close(
                ledger, Outcome(number=number, **ended, **paid, run_id=ti.run_id, ended=datetime.now(UTC))
            )
            if order := ledger.orders().get(number):
                show(app, order.decision, outcome)
            said = f"retraining {number}: {outcome.result}, {outcome.explanation}"
            result = {"order": number, "outcome": outcome.result, "reason": said, "hours": outcome.hours}
            tell(app, "close", result, context)
        log.info("%s", result["reason"])
        if ended["result"] == "cancelled":
            ti.xcom_push("return_value", result)
            raise AirflowFailException(ended["explanation"])
        return result


@task(**OUTLASTING)
def step_in(application: str, **context: Any) -> dict[str, Any]:
    """Do what the person who started the run asks, and say what was done.

    Force orders a retraining past every bound but one: only one is open at a time. Give up ends the open one without a
    model. Snooze keeps the policy from ordering for some days; forcing still works. Wake ends a snooze, and wakes finetune
    for an order that no run has claimed.

    :return: `reason`, which says what was done; `order`, set where finetune has to be woken for one, `decision`, `reports`.
    :raises AirflowFailException: what was asked for could not be done; the text says why, and what to do.
    """
    ti, params = context["ti"], context["params"]
    with deciding(application, context) as (app, ledger):
        now, reason = datetime.now(UTC), storable(params["reason"]).strip()
        by = storable(context["dag_run"].triggering_user_name or "somebody")
        orders.close_lost(ledger, now, app.retraining.lost_after_hours, runs_of_finetune(app, context))
        match params["action"]:
            case "force":
                wish = f"forced-{_of_run(ti, 'force')}"
                decision = orders.force(ledger, wish, reason=reason, by=by, now=now)
                if decision is None:
                    result = _instead(ledger)
                else:
                    show(app, decision)
                    result = {
                        "order": decision.order,
                        "decision": decision.id,
                        "reports": [],
                        "reason": decision.reason,
                    }
            case "give up":
                outcome = orders.give_up(ledger, ti.run_id, reason=reason, by=by, now=now)
                if outcome is None:
                    raise AirflowFailException("nothing was given up: no retraining is open")
                show(app, ledger.orders()[outcome.number].decision, outcome)
                result = {**NOTHING, "reason": _given_up(outcome)}
            case "snooze":
                until = now + timedelta(days=params["days"])
                ledger.create(Snooze(id=_of_run(ti, "snooze"), until=until, reason=reason, by=by, created=now))
                kept = f"{by} snoozed retraining until {until:%Y-%m-%d %H:%M} UTC: {reason}"
                result = {**NOTHING, "reason": kept}
            case _:
                result = _woken(ledger, Snooze(id=_of_run(ti, "wake"), until=now, reason=reason, by=by, created=now))
        log.info("%s", result["reason"])
        return result


def _ordered(order: Order, reason: str) -> dict[str, Any]:
    decision = order.decision
    return {"order": order.number, "decision": decision.id, "reports": decision.reports, "reason": reason}


def _ended(run_id: str, states: Mapping[str, str], got: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How a run ended, from the states of its tasks and what they returned: fields of an outcome.

    Who marks a run as failed has its running tasks fail and those that come after skipped. By itself, a task that fails
    has what comes after it fail with it, and only a snapshot without examples, which says why, has it skipped.
    """
    kept = {
        "model": got["train"].get("model"),
        "evaluation": got["evaluate"].get("evaluation"),
        "model_version": got["register"].get("version"),
        "verdict": got["register"].get("verdict"),
    }
    failed = sorted(name for name, state in states.items() if state == "failed")
    stopped = got["snapshot"].get("reason", "") if states.get("snapshot") == "skipped" else ""
    if version := kept["model_version"]:
        how, why = "registered", f"version {version}, its gate says {kept['verdict'] or 'nothing'}"
    elif "skipped" in states.values() and not stopped:
        how, why = "cancelled", f"{run_id} was marked as failed by hand"
    elif failed:
        how, why = "failed", f"{', '.join(failed)} failed in {run_id}; the log of that task says why"
    else:
        how, why = "failed", stopped or f"{run_id} ended without a version"
    return {"result": how, "explanation": why, **kept}


def _is_new(ledger: Ledger, number: int, ended: Mapping[str, Any]) -> bool:
    """Whether the run trained its model, and did not take up one that another retraining has paid for."""
    others = (other for other in ledger.index("outcomes").outcomes.values() if other.number != number)
    return not ended["model"] or all(other.model != ended["model"] for other in others)


def _hours(application: str, ti: Any, trained: Mapping[str, Any], params: Mapping[str, Any]) -> float:
    """Hours of training over all processes. Of one that left no result: those of its pods, else those since it began."""
    processes = trained.get("processes") or params.get("processes") or 1
    if "seconds" in trained:
        return float(processes * trained["seconds"]) / 3600
    began, now = _began(application, ti), datetime.now(UTC)
    if began is None:
        return 0.0
    pods = pods_of_run(storage_uri(), application, run_key(ti.dag_id, ti.run_id), began.date(), now.date())
    if trainings := [pod for pod in pods if pod.job == "train"]:
        return sum(pod.hours * max(1, pod.gpus) for pod in trainings)
    return float(processes * (now - began).total_seconds()) / 3600


def _used(application: str, ti: Any, began: datetime | None) -> dict[str, float]:
    """GPU-hours and cost of all pods of a run; nothing where none was accounted for, as with jobs of the worker's machine."""
    now = datetime.now(UTC)
    first = (began or now).astimezone(UTC).date()
    pods = pods_of_run(storage_uri(), application, run_key(ti.dag_id, ti.run_id), first, now.date())
    used = total(pods)
    return {"gpu_hours": used.gpu_hours, "cost": used.cost} if pods else {}


def _began(application: str, ti: Any) -> datetime | None:
    """When the training of a run began, after it got a slot; None: it never did. Each try begins with its spec."""
    place = results_of(ti.dag_id, ti.run_id, "train", None)
    spec = UPath(storage_uri()).joinpath(application, *place, "try-1", "spec.json")
    try:
        return cast(datetime, spec.fs.modified(spec.path))
    except FileNotFoundError:
        return None


def _instead(ledger: Ledger) -> dict[str, Any]:
    """What forcing does while a retraining is open: it wakes finetune for it where nobody trains for it yet."""
    order = orders.open_order(ledger)
    if order is None:
        raise AirflowFailException("the retraining that was open has just ended; start this DAG again")
    if claim := ledger.claim(order.number):
        raise AirflowFailException(
            f"nothing was ordered: retraining {order.number} is the work of {claim.run_id or 'nobody'}; wait for it, or give "
            "it up first"
        )
    return _ordered(order, f"retraining {order.number} waits already, and finetune is woken: {order.decision.reason}")


def _woken(ledger: Ledger, end: Snooze) -> dict[str, Any]:
    """End a snooze, and find the order that waits for finetune."""
    snooze = ledger.snooze()
    if snooze and (snooze.until > end.created or snooze.id == end.id):
        ledger.create(end)
        over = "the snooze is over"
    else:
        over = "nothing was snoozed"
    order = orders.open_order(ledger)
    if order is None:
        return {**NOTHING, "reason": f"{over}; no retraining is ordered"}
    if claim := ledger.claim(order.number):
        return {**NOTHING, "reason": f"{over}; retraining {order.number} is the work of {claim.run_id}"}
    return _ordered(order, f"{over}; retraining {order.number} waits for finetune: {order.decision.reason}")


def _given_up(outcome: Outcome) -> str:
    said = f"retraining {outcome.number} is {outcome.result}: {outcome.explanation}"
    return f"{said}. Mark {outcome.run_id} as failed if it still trains" if outcome.run_id else said


def _of_run(ti: Any, action: str) -> str:
    """Identifies a wish: a task that is tried again wishes the same."""
    return digest_of([ti.run_id, action])[:12]
