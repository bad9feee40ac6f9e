"""The DAGs of a retraining: what wakes them, what a person may ask, and what their templates make of a run that failed."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowSkipException, ParamValidationError

from nightshift.settings.clock import Clock

DAGS = Path(__file__).parents[2] / "dags"
APP = """\
description: Answers questions about returns.
sources:
  - uri: /data/returns/{start:%Y-%m-%d}.jsonl
    columns: {prompt: question, answer: reply}
"""


@pytest.fixture(scope="module")
def dags(tmp_path_factory):
    """The DAGs of an application without a retrain schedule of its own, and of one with."""
    project = tmp_path_factory.mktemp("project")
    apps = project / "apps"
    apps.mkdir()
    (apps / "returns.yaml").write_text(APP)
    (apps / "weekly.yaml").write_text(APP + "retrain: 0 3 * * 0\n")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NIGHTSHIFT_PROJECT", str(project))
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
    return task.render_template(dict(task.arguments), run)


def test_only_a_person_or_the_applications_own_schedule_trains_without_an_order(dags):
    unasked = {name: dags[f"{name}_finetune"].get_task("due").op_args[1] for name in ("returns", "weekly")}
    assert unasked == {"returns": ["asset_triggered", "scheduled"], "weekly": ["asset_triggered"]}


def test_finetune_wakes_for_an_order_and_looks_at_the_ledger_every_night(dags):
    for name, cron in {"returns": Clock().cron("finetune", "returns"), "weekly": "0 3 * * 0"}.items():
        schedule = dags[f"{name}_finetune"].schedule
        assert schedule.asset_condition.name == f"{name}_retraining"
        assert schedule.timetable.expression == cron


def test_a_run_that_a_person_marks_as_failed_still_closes_its_order(dags):
    dag = dags["returns_finetune"]
    close = dag.get_task("close")
    assert close.is_teardown
    assert close.on_failure_fail_dagrun
    assert close.upstream_task_ids == {"due", "snapshot", "train", "evaluate", "reference", "register"}
    assert dag.get_task("announce").upstream_task_ids == {"register"}


def test_the_reason_goes_with_the_training(dags):
    results = {
        "due": {"order": 3, "reason": "2 of the newest 3 intervals failed"},
        "snapshot": {"snapshot": "s", "digest": "d"},
    }
    arguments = rendered(dags["returns_finetune"].get_task("train"), results)
    assert (arguments["order"], arguments["reason"]) == (3, "2 of the newest 3 intervals failed")


@pytest.mark.parametrize(
    ("conf", "wrong"),
    [
        ({"reason": ""}, "reason"),
        ({"reason": "  \n"}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"reason": "why", "action": "give-up"}, "action"),
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
