"""The DAGs of a retraining: what wakes them, what a person may ask, and what their templates make of a run that failed."""

import copy
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import AirflowSkipException, ParamValidationError

from nightshift.jobs.close import Spec as CloseSpec
from nightshift.jobs.due import Spec as DueSpec

DAGS = Path(__file__).parents[2] / "dags"
APP = """\
description: Answers questions about returns.
sources:
  - uri: /data/returns/{start:%Y-%m-%d}.jsonl
    columns: {prompt: question, answer: reply}
"""


class RunType(str, Enum):  # noqa: UP042  (as Airflow's own)
    """How Airflow names why a run exists."""

    MANUAL = "manual"
    SCHEDULED = "scheduled"
    ASSET_TRIGGERED = "asset_triggered"


@pytest.fixture(scope="module")
def dags(tmp_path_factory):
    """The DAGs of an application without a retrain schedule of its own, and of one with."""
    apps = tmp_path_factory.mktemp("apps")
    (apps / "returns.yaml").write_text(APP)
    (apps / "weekly.yaml").write_text(APP + "retrain: 0 3 * * 0\n")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NIGHTSHIFT_APPS", str(apps))
        bags = [DagBag(DAGS / file) for file in ("finetune.py", "retraining.py")]
    return {name: dag for bag in bags for name, dag in bag.dags.items()}


def rendered(task, results, **context):
    """The arguments of a job's task, as a worker renders them."""
    ti = SimpleNamespace(
        dag_id=task.dag.dag_id,
        xcom_pull=lambda *, task_ids: results.get(task_ids),
        get_task_states=lambda dag_id, run_ids: {run_ids[0]: context["states"]},
    )
    run = {"run_id": "manual__1", "dag": task.dag, "ti": ti, "params": task.dag.params.dump(), **context}
    arguments = task.render_template(task.arguments, run)
    return {name: value for name, value in arguments.items() if value not in ("", "None")}


@pytest.mark.parametrize(
    ("dag", "run_type", "wanted"),
    [
        ("returns_finetune", RunType.MANUAL, True),
        ("returns_finetune", RunType.SCHEDULED, False),
        ("returns_finetune", RunType.ASSET_TRIGGERED, False),
        ("weekly_finetune", RunType.SCHEDULED, True),
        ("weekly_finetune", RunType.ASSET_TRIGGERED, False),
    ],
)
def test_only_a_person_or_the_applications_own_schedule_trains_without_an_order(dags, dag, run_type, wanted):
    run = SimpleNamespace(run_type=run_type, triggering_user_name=None)
    arguments = rendered(dags[dag].get_task("due"), {}, dag_run=run)
    fields = DueSpec.model_fields.keys() & arguments.keys()
    assert fields == {"dag_id", "run_id", "wanted"}
    assert DueSpec.model_construct(**arguments).wanted == str(wanted)


def test_finetune_wakes_for_an_order_and_looks_at_the_ledger_every_night(dags):
    for name, cron in {"returns": "30 4 * * *", "weekly": "0 3 * * 0"}.items():
        schedule = dags[f"{name}_finetune"].schedule
        assert schedule.asset_condition.name == f"{name}_retraining"
        assert schedule.timetable.expression == cron


def test_a_failed_step_fails_the_run_and_the_order_is_closed_all_the_same(dags):
    dag = dags["returns_finetune"]
    close = dag.get_task("close")
    assert close.trigger_rule == TriggerRule.ALL_DONE_MIN_ONE_SUCCESS
    assert close.upstream_task_ids == {"due", "snapshot", "train", "evaluate", "reference", "register"}
    assert dag.get_task("announce").upstream_task_ids == {"register"}


def test_what_is_closed_names_the_task_that_failed(dags):
    states = {"due": "success", "snapshot": "success", "train": "failed", "evaluate": "upstream_failed"}
    results = {"due": {"order": 3}, "snapshot": {"reason": "1,000 training examples"}}
    arguments = rendered(dags["returns_finetune"].get_task("close"), results, states=states)
    assert arguments == {
        "run_id": "manual__1", "order": "3", "failed": "train", "stopped": "1,000 training examples"
    }  # fmt: skip


def test_what_is_closed_holds_the_version_and_what_it_cost(dags):
    results = {
        "due": {"order": 3},
        "snapshot": {"reason": "fine"},
        "train": {"model": "s3://m", "seconds": 61.5, "processes": 16},
        "evaluate": {"evaluation": "s3://e"},
        "register": {"version": "4", "verdict": "PASS"},
    }
    arguments = rendered(dags["returns_finetune"].get_task("close"), results, states={"due": "success"})
    spec = CloseSpec.model_validate({"application": {"name": "a", "sources": [
        {"uri": "/x", "columns": {"prompt": "p"}}]}, "storage": "memory://x", **arguments})  # fmt: skip
    assert (spec.order, spec.version, spec.gate, spec.model) == (3, "4", "PASS", "s3://m")
    assert (spec.seconds, spec.processes) == (61.5, 16)
    assert spec.failed == ""


def test_the_reason_goes_with_the_training(dags):
    results = {
        "due": {"order": 3, "reason": "2 of the newest 3 nights failed"},
        "snapshot": {"snapshot": "s", "digest": "d"},
    }
    arguments = rendered(dags["returns_finetune"].get_task("train"), results)
    assert (arguments["order"], arguments["reason"]) == ("3", "2 of the newest 3 nights failed")


@pytest.mark.parametrize(
    ("conf", "wrong"),
    [
        ({"reason": ""}, "reason"),
        ({"reason": "  \n"}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"reason": "why", "action": "cancel"}, "action"),
        ({"reason": "why", "days": 0}, "days"),
        ({"reason": "why", "days": 91}, "days"),
        ({}, "reason"),
    ],
)
def test_the_form_asks_for_a_reason_and_refuses_what_is_out_of_bounds(dags, conf, wrong):
    params = copy.deepcopy(dags["returns_retraining"].params)

    def send():
        params.update(conf)
        params.validate()

    with pytest.raises(ParamValidationError, match=wrong):
        send()


def test_finetune_is_woken_only_when_there_is_something_to_train(dags):
    wake = dags["returns_retraining"].get_task("wake")
    ti, events = SimpleNamespace(task=wake), {wake.outlets[0]: SimpleNamespace()}
    asked = {"verdict": "PASS", "order": None, "reason": "snoozed", "decision": None, "reports": []}
    with pytest.raises(AirflowSkipException, match="snoozed"):
        wake.python_callable(asked, ti=ti, outlet_events=events)
    wake.python_callable(asked | {"order": 2, "decision": "forced-1"}, ti=ti, outlet_events=events)
    assert wake.outlets[0].name == "returns_retraining"
    assert events[wake.outlets[0]].extra == {"order": 2, "reason": "snoozed", "decision": "forced-1", "reports": []}
