"""Detects what no task reports, for the DAG `nightshift_alerts`: from Airflow's state, the ledger and the accounts of pods.

A look only keeps alerts; the task `deliver` sends them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from nightshift.alerts import watch, watch_people
from nightshift.alerts.alert import Alert
from nightshift.alerts.conditions import Open
from nightshift.alerts.global_alerts import housekeeping_failed, paused, unreadable
from nightshift.alerts.of_runs import failed, late, no_longer_failed
from nightshift.alerts.outbox import Outbox
from nightshift.ledger.budget import bounds, forecast
from nightshift.ledger.records import Answer
from nightshift.ledger.spending import keep_summary, spent_by_days
from nightshift.ledger.store import Ledger
from nightshift.orchestration.airflow_rest import AirflowRest
from nightshift.orchestration.airflow_state import (
    CALLBACK_TIME,
    LOOKED_BACK,
    AirflowState,
    failed_tasks,
    newest_runs,
    run_now,
)
from nightshift.orchestration.links import run_links
from nightshift.orchestration.telling import keep, late_after
from nightshift.settings.application import Application

# Looks are minutes apart. After a longer pause the scheduler has just started, too, and makes the runs that it missed.
PAUSE = timedelta(minutes=30)


def detect(app: Application, storage: str, rest: AirflowRest, state: AirflowState) -> int:
    """Keep new alerts of one application, and the ends of open ones; return how many are new.

    :raises OSError: storage cannot be read or written.
    """
    outbox, ledger, now = Outbox(storage, app.name), Ledger(storage, app.name), state.began
    held = outbox.held()
    watched = watch.with_recurrence(_of_airflow(app, state, outbox, held), held, outbox.knows, now=now)
    watched += _of_budget(app, ledger, now)
    waiting, reminders = _of_approvals(app, ledger, state)
    still = {alert.condition for alert in watched} | waiting
    over = watch.over(held, still, _answers(ledger, held, still), now=now)
    told = [*_failures(app, outbox, rest, state), *_lost(app, ledger, now)]
    over += _recoveries(app, rest, held, now)
    ended = {alert.condition for alert in over}
    holding = [one for one in held if one.alert.condition not in ended]
    silenced = watch.still_true(holding, ledger.responses(one.alert.condition for one in holding), now=now)
    news = keep(outbox, [*told, *watched, *reminders, *over, *silenced])
    ledger.keep_index()
    outbox.looked(datetime.now(UTC))
    return news


def detect_global(all_applications: Application, storage: str, state: AirflowState) -> int:
    """Keep the alerts of housekeeping DAGs and unreadable files, as `detect` does.

    :raises OSError: storage cannot be read or written.
    """
    outbox, now = Outbox(storage, all_applications.name), state.began
    held = outbox.held()
    found = [
        *_of_airflow(all_applications, state, outbox, held),
        *(
            housekeeping_failed(dag, links=run_links(all_applications.name, dag.dag_id, dag.run), now=now)
            for dag in state.failed_housekeeping
        ),
        *(paused(dag, now=now) for dag in state.dags[all_applications.name] if dag.is_paused and not dag.is_stale),
        *(unreadable(error, now=now) for error in state.broken),
    ]
    watched = watch.with_recurrence(found, held, outbox.knows, now=now)
    still = {alert.condition for alert in watched} | {one.alert.condition for one in held if _still_fails(one, state)}
    news = keep(outbox, [*watched, *watch.over(held, still, {}, now=now)])
    outbox.looked(datetime.now(UTC))
    return news


def _still_fails(held: Open, state: AirflowState) -> bool:
    """Whether a failed housekeeping DAG has not succeeded since; pausing it does not end its alert."""
    mark, _, dag_id = held.alert.condition.partition(" ")
    return mark == "housekeeping" and not (dag_id in state.works and state.works[dag_id] > held.alert.since)


def _failures(app: Application, outbox: Outbox, rest: AirflowRest, state: AirflowState) -> list[Alert]:
    """Failed runs without an alert: their callback was lost, or never called."""
    found = []
    for run in state.failed[app.name]:
        links = run_links(app.name, run.dag_id, run.run_id)
        if not outbox.knows(failed(app.name, run, tasks=[], links=links, now=state.began).id):
            found.append(failed(app.name, run, tasks=failed_tasks(rest, run), links=links, now=state.began))
    return found


def _recoveries(app: Application, rest: AirflowRest, held: list[Open], now: datetime) -> list[Alert]:
    """Failures that ended without a notice: the callback was lost, or the run was deleted."""
    found: list[Alert] = []
    for one in held:
        if not one.alert.condition.startswith("failed "):
            continue
        dag_id, _, run_id = one.alert.subject.partition(" ")
        run = run_now(rest, dag_id, run_id)
        successes = newest_runs(rest, dag_id, "success") if run and run.state == "failed" else []
        links = run_links(app.name, dag_id, run_id)
        found += no_longer_failed(one, run, successes, links=links, now=now)
    return found


def _of_airflow(app: Application, state: AirflowState, outbox: Outbox, held: list[Open]) -> list[Alert]:
    now, unfinished = state.began, state.unfinished[app.name]
    found = [
        late(app.name, run, hours, links=run_links(app.name, run.dag_id, run.run_id), now=now)
        for run in unfinished
        for hours in [late_after(app, run.dag_id)]
        if run.began and now - run.began > timedelta(hours=hours)
    ]
    found += [
        watch.stuck(app.name, task, links=run_links(app.name, task.dag_id, task.run_id), now=now)
        for task in state.tasks[app.name]
        if watch.hangs(task, now)
    ]
    overdue = watch.not_come(app.name, state.dags[app.name], {run.dag_id for run in unfinished}, now=now)
    looked = outbox.last_look()
    if looked is None or now - looked > PAUSE:
        known = {one.alert.condition for one in held}
        overdue = [alert for alert in overdue if alert.condition in known]
    return found + overdue


def _of_budget(app: Application, ledger: Ledger, now: datetime) -> list[Alert]:
    """Alerts about the budget; the spending summary is kept, and the metrics endpoint reads it, too."""
    spent = spent_by_days(keep_summary(ledger, now), app.budget, now)
    expected = forecast(ledger.index("outcomes").outcomes.values())
    return watch_people.spent(app, bounds(app.budget, spent, expected), now=now)


def _of_approvals(app: Application, ledger: Ledger, state: AirflowState) -> tuple[set[str], list[Alert]]:
    """The conditions of open approval requests, and reminders that are due."""
    requests = ledger.requests()
    answered = ledger.answers(requests)
    waiting_tasks = {(task.dag_id, task.run_id, task.task_id) for task in state.tasks[app.name]}
    waiting, reminders = set(), []
    for request in (request for name, request in requests.items() if name not in answered):
        # A request that opened during this look is missing in the list of tasks.
        new = state.began - request.asked < CALLBACK_TIME
        if not (new or (request.dag_id, request.run_id, request.task_id) in waiting_tasks):
            continue
        waiting.add(f"approval {request.id}")
        links = run_links(app.name, request.dag_id, request.run_id)
        if reminder := watch_people.waits(app, request, links=links, now=state.began):
            reminders.append(reminder)
    return waiting, reminders


def _answers(ledger: Ledger, held: list[Open], still: set[str]) -> dict[str, Answer]:
    """The answers to requests that were closed since the last look."""
    conditions = [one.alert.condition for one in held if one.alert.condition not in still]
    ids = [name.removeprefix("approval ") for name in conditions if name.startswith("approval ")]
    return {name: answer for name in ids if (answer := ledger.answer(name))}


def _lost(app: Application, ledger: Ledger, now: datetime) -> list[Alert]:
    """Retrainings that the ledger recently recorded as lost; the outbox sends each alert once."""
    return [
        watch_people.lost(app, outcome, now=now)
        for outcome in ledger.index("outcomes").outcomes.values()
        if outcome.result == "lost" and now - outcome.ended < LOOKED_BACK
    ]
