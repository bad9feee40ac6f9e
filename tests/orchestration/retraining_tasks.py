"""The tasks around a retraining, called as Airflow calls them; what the tests of them share."""

from datetime import UTC, datetime
from types import SimpleNamespace

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from nightshift.ledger import orders
from nightshift.ledger.records import MonitoredInterval
from nightshift.ledger.store import Ledger
from nightshift.orchestration import retraining
from nightshift.settings.applications import load_application

UNASKED = ["asset_triggered", "scheduled"]
STEPS = ("due", "snapshot", "train", "evaluate", "reference", "register")


def context(run_id, *, results=None, states=None, user=None, run_type="manual", conf=None, params=None, living=()):
    """What Airflow gives a task, as far as these look at it; `pushed` is what a task said before it raised.

    :param living: ids of the runs of finetune that are queued or running.
    """
    pushed = {}
    ti = SimpleNamespace(
        dag_id="app_finetune", run_id=run_id, task_id="t", try_number=1, log_url="http://airflow/log",
        xcom_pull=lambda *, task_ids: (results or {}).get(task_ids),
        xcom_push=pushed.__setitem__,
        get_task_states=lambda dag_id, run_ids: {run_ids[0]: states or {}},
        get_dr_count=lambda dag_id, states, run_ids=living: len({*living} & {*run_ids}) * (dag_id == "app_finetune"),
    )  # fmt: skip
    params = params or {}
    run = SimpleNamespace(
        dag_id="app_finetune", run_id=run_id, run_type=run_type, triggering_user_name=user, conf=conf or params,
        state="running", queued_at=None, start_date=None, end_date=None, run_after=None, data_interval_start=None,
        data_interval_end=None,
    )  # fmt: skip
    return {"ti": ti, "dag_run": run, "dag": SimpleNamespace(params=params), "params": params, "pushed": pushed}


def ask(run_id="asset_triggered__1", **fields):
    """What `due` answers a DAG run; of one that is skipped, what it said."""
    given = context(run_id, **{"run_type": run_id.partition("__")[0], **fields})
    try:
        return retraining.due.function("app", UNASKED, **given)
    except AirflowSkipException as skipped:
        return {**given["pushed"]["return_value"], "skipped": str(skipped)}


def end(order, run_id="asset_triggered__1", states=None, params=None, **results):
    """What `close` answers at the end of a DAG run; of one that was cancelled, what it said."""
    given = context(run_id, results={"due": {"order": order}, **results}, states=states, params=params)
    try:
        return retraining.close.function("app", **given)
    except AirflowFailException as failed:
        return {**given["pushed"]["return_value"], "failed": str(failed)}


def wish(action, run_id="manual__1", reason="the new tariff is out", days=7, living=()):
    params = {"action": action, "reason": reason, "days": days}
    return retraining.step_in.function("app", **context(run_id, user="ana", params=params, living=living))


def trip(storage, day=22, decided=None):
    """A failing night, and the decision that orders a retraining."""
    night = MonitoredInterval(
        monitor="drift", interval=f"2026-11-{day}", verdict="FAIL", model_digest="c" * 64, failing=["exact_match"],
        report=f"memory://report/{day}", report_digest=f"{day:064d}", created=datetime(2026, 11, day, tzinfo=UTC),
    )  # fmt: skip
    return orders.evaluate(load_application("app"), Ledger(storage, "app"), night, decided or datetime.now(UTC))


def states(**given):
    """The states of a run's steps: those before the first that is given succeeded."""
    first = min(STEPS.index(name) for name in given)
    return {**dict.fromkeys(STEPS[:first], "success"), **given}


TRAINED = {"train": {"model": "s3://m", "seconds": 1_800.0, "processes": 2}, "evaluate": {"evaluation": "s3://e"}}
REGISTERED = {**TRAINED, "register": {"version": "4", "verdict": "WARN"}}
FAILED = states(train="failed", evaluate="upstream_failed", reference="upstream_failed", register="upstream_failed")
