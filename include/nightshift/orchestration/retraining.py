"""The light tasks of a retraining: which run trains for an order, how it ended, and how a person intervenes."""

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
from nightshift.orchestration.ledger_task import (
    LEDGER_TASK_ARGUMENTS,
    ledger_task,
    log_decision,
    notify_of_decision,
    runs_of_finetune,
)
from nightshift.shown import storable
from nightshift.storage.manifest import digest_of

NOTHING: dict[str, Any] = {"order": None, "decision": None, "reports": []}

log = logging.getLogger(__name__)


@task(**LEDGER_TASK_ARGUMENTS)
def due(application: str, unasked: Collection[str], **context: Any) -> dict[str, Any]:
    """Claim the open order for this run, unless the run has it already. Without an order, go on only if somebody asked.

    A model that an earlier run trained and could not register is reused, for its own order or for the next one that drift
    caused. A person who asks for a training gets one on the newest rows.

    :param unasked: types of runs that train only for an order.
    :return: `order` and `decision` (None: it trains without an order), `reason`, `reports` (URIs) that caused the order, and
        `model`, the URI of a model that is trained already.
    :raises AirflowSkipException: nothing is due.
    """
    ti, dag_run = context["ti"], context["dag_run"]
    with ledger_task(application, context) as (app, ledger):
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
        notify_of_decision(app, "due", result, context)
        return result


@task(**LEDGER_TASK_ARGUMENTS)
def close(application: str, **context: Any) -> dict[str, Any]:
    """Record how the retraining of this run ended, so that a failed or cancelled one does not block the next.

    It is a teardown: it always runs, also when a person marks the run as failed. The hours are summed over all processes;
    for a training without a result they are an upper bound, counted from its start.

    :return: `order` (None: the run trained without one), `outcome`, `reason` and `hours`.
    :raises AirflowFailException: a person cancelled the run; without this failure Airflow would show it as a success.
    """
    ti = context["ti"]
    with ledger_task(application, context) as (app, ledger):
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
                log_decision(app, order.decision, outcome)
            said = f"retraining {number}: {outcome.result}, {outcome.explanation}"
            result = {"order": number, "outcome": outcome.result, "reason": said, "hours": outcome.hours}
            notify_of_decision(app, "close", result, context)
        log.info("%s", result["reason"])
        if ended["result"] == "cancelled":
            ti.xcom_push("return_value", result)
            raise AirflowFailException(ended["explanation"])
        return result


@task(**LEDGER_TASK_ARGUMENTS)
def step_in(application: str, **context: Any) -> dict[str, Any]:
    """Carry out the action that the person who started the run chose.

    Force orders a retraining past every limit but one: only one is open at a time. Give up ends the open one without a
    model. Snooze keeps the policy from ordering for some days; forcing still works. Wake ends a snooze, and wakes finetune
    for an order that no run has claimed.

    :return: `reason`, which says what was done; `order`, set if finetune has to be woken for it, `decision`, `reports`.
    :raises AirflowFailException: the action is not possible; the text says why, and what to do.
    """
    ti, params = context["ti"], context["params"]
    with ledger_task(application, context) as (app, ledger):
        now, reason = datetime.now(UTC), storable(params["reason"]).strip()
        by = storable(context["dag_run"].triggering_user_name or "somebody")
        orders.close_lost(ledger, now, app.retraining.lost_after_hours, runs_of_finetune(app, context))
        match params["action"]:
            case "force":
                request = f"forced-{_of_run(ti, 'force')}"
                decision = orders.force(ledger, request, reason=reason, by=by, now=now)
                if decision is None:
                    result = _instead(ledger)
                else:
                    log_decision(app, decision)
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
                log_decision(app, ledger.orders()[outcome.number].decision, outcome)
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
    """The fields of an outcome, from the states and results of a run's tasks.

    Marking a run as failed fails its running tasks and skips those downstream. A task that fails by itself makes its
    downstream tasks fail; only a snapshot without examples skips them.
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
        how, why = "failed", f"{', '.join(failed)} failed in {run_id}; see the log of that task"
    else:
        how, why = "failed", stopped or f"{run_id} ended without a version"
    return {"result": how, "explanation": why, **kept}


def _is_new(ledger: Ledger, number: int, ended: Mapping[str, Any]) -> bool:
    """Whether the run trained its model itself, and did not reuse one of an earlier retraining."""
    others = (other for other in ledger.index("outcomes").outcomes.values() if other.number != number)
    return not ended["model"] or all(other.model != ended["model"] for other in others)


def _hours(application: str, ti: Any, trained: Mapping[str, Any], params: Mapping[str, Any]) -> float:
    """Hours of training over all processes. Without a result: those of its pods, else the hours since it began."""
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
    """GPU-hours and cost of all pods of a run; empty without accounts, as for jobs on the worker's machine."""
    now = datetime.now(UTC)
    first = (began or now).astimezone(UTC).date()
    pods = pods_of_run(storage_uri(), application, run_key(ti.dag_id, ti.run_id), first, now.date())
    used = total(pods)
    return {"gpu_hours": used.gpu_hours, "cost": used.cost} if pods else {}


def _began(application: str, ti: Any) -> datetime | None:
    """When the training of a run began, after it got a slot; None: it did not begin. Each try first writes its spec."""
    place = results_of(ti.dag_id, ti.run_id, "train", None)
    spec = UPath(storage_uri()).joinpath(application, *place, "try-1", "spec.json")
    try:
        return cast(datetime, spec.fs.modified(spec.path))
    except FileNotFoundError:
        return None


def _instead(ledger: Ledger) -> dict[str, Any]:
    """Force while a retraining is open: wake finetune for it unless a run trains for it already."""
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
    """Identifies a request: a task that is tried again makes the same one."""
    return digest_of([ti.run_id, action])[:12]
