"""The DAG of the nightly drift: what it asks the job, and what follows from the answer."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.utils.dag_version_inflation_checker import check_dag_file_stability
from ledger_intervals import crowned, publish_interval

from nightshift.ledger.orders import claim
from nightshift.ledger.store import Ledger
from nightshift.registry.versions import DIGEST_TAG
from nightshift.settings.project import PACKAGE

FILE = Path(__file__).parents[2] / "dags" / "nightly_drift.py"


@pytest.fixture(scope="module")
def dag():
    bag = DagBag(FILE)
    assert bag.import_errors == {}
    return bag.dags["banking_assistant_nightly_drift"]


def arguments_of(dag, *, run_type="manual", logical_date=None, night=None):
    context = {
        "params": {"night": night},
        "dag_run": SimpleNamespace(run_type=run_type),
        "logical_date": logical_date,
    }
    task = dag.get_task("drift")
    return task.render_template(dict(task.arguments), context)


def result(verdict="PASS", missing=None, reports=()):
    nights = [
        {"night": "n", "verdict": verdict, "reasons": [], "run_url": None, "report": report} for report in reports
    ]
    return {"verdict": verdict, "reasons": ["as said"], "nights": nights, "missing": missing}


def test_only_the_clock_misses_a_night_that_did_not_come(dag):
    fired = datetime(2026, 11, 6, 5, tzinfo=UTC)
    assert arguments_of(dag, run_type="scheduled", logical_date=fired)["expected_by"] == fired
    assert arguments_of(dag, run_type="asset_triggered") == {"night": None, "expected_by": None}
    assert arguments_of(dag, logical_date=fired, night="2026-11-03") == {"night": "2026-11-03", "expected_by": None}


def test_the_file_makes_no_new_version_at_every_parse():
    assert not check_dag_file_stability(str(FILE)).warnings


def test_drift_fails_no_task_but_a_blind_monitor_does(dag):
    verdict = dag.get_task("verdict").python_callable
    for passed in ("PASS", "WARN", "FAIL"):
        verdict(result(passed))
    with pytest.raises(AirflowSkipException):
        verdict(result("INSUFFICIENT_DATA"))
    with pytest.raises(AirflowFailException, match="as said"):
        verdict(result("ERROR"))
    with pytest.raises(AirflowFailException):
        verdict(result("INSUFFICIENT_DATA", missing="2026-11-05"))


@pytest.fixture
def storage(project, tmp_path, monkeypatch, mlflow_server):
    """Storage, with the application's policy changed: a retraining needs no new examples."""
    place = (tmp_path / "storage").as_uri()
    app = yaml.safe_load((PACKAGE / "apps" / "banking_assistant.yaml").read_text())
    changed = yaml.safe_dump({**app, "retraining": {"min_new_examples": 0}})
    (project / "apps" / "banking_assistant.yaml").write_text(changed)
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", place)
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", mlflow_server)
    return place


def follow(dag, *reports):
    """What `retraining` says after these reports, and what it tells finetune; of one that was skipped, what it said."""
    task, pushed = dag.get_task("retraining"), {}
    (asset,) = task.outlets
    event = SimpleNamespace(extra=None)
    context = {
        "ti": SimpleNamespace(task=task, task_id="retraining", log_url="", xcom_push=pushed.__setitem__),
        "dag": dag,
        "dag_run": SimpleNamespace(dag_id=dag.dag_id, run_id="r", conf={}, state="running", queued_at=None,
                                   start_date=None, end_date=None, run_after=None, data_interval_start=None,
                                   data_interval_end=None),
        "outlet_events": {asset: event},
    }  # fmt: skip
    try:
        return task.python_callable("banking_assistant", "drift", result(reports=reports), **context), event.extra
    except AirflowSkipException as skipped:
        return {**pushed["return_value"], "skipped": str(skipped)}, event.extra


def report(storage, day, verdict):
    return publish_interval(storage, day, verdict, application="banking_assistant").report


@pytest.mark.slow
def test_two_nights_that_fail_order_one_retraining_which_finetune_is_told_of_until_a_run_has_it(dag, storage):
    crowned(storage, "banking_assistant")
    said, told = follow(dag, report(storage, 21, "PASS"))
    assert (said["decision"], told) == ("quiet", None)
    assert said["skipped"].startswith("no retraining: 0 of the newest 1 intervals with a verdict failed")
    reports = [report(storage, day, "FAIL") for day in (22, 23)]
    said, told = follow(dag, *reports)
    assert (said["order"], said["decision"], said["night"]) == (1, "tripped", "2026-11-23")
    assert (told["number"], told["reports"]) == (1, reports[::-1])
    assert follow(dag) == (said, told)  # nobody trains for it yet
    claim(Ledger(storage, "banking_assistant"), "finetune", "a run", datetime.now(UTC))
    said, told = follow(dag)
    assert (said["skipped"], told) == ("no retraining: retraining 1 is the work of a run", None)
    assert sorted(Ledger(storage, "banking_assistant").orders()) == [1]


@pytest.mark.slow
def test_stopped_before_the_ledger_was_asked_the_next_try_asks_it(dag, storage):
    crowned(storage, "banking_assistant")
    for day in (22, 23):
        report(storage, day, "FAIL")
    said, told = follow(dag)
    assert said["order"] == told["number"] == 1


@pytest.mark.slow
def test_before_any_night_was_judged_it_says_so(dag, storage):
    said, told = follow(dag)
    assert (said["skipped"], said["decision"], told) == ("no retraining: no interval was judged", None, None)


@pytest.mark.slow
def test_while_the_alias_was_moved_by_hand_nothing_is_ordered(dag, storage):
    from mlflow import MlflowClient

    crowned(storage, "banking_assistant")
    client = MlflowClient()
    client.create_registered_model("banking_assistant")
    version = client.create_model_version("banking_assistant", "s3://gone/model", tags={DIGEST_TAG: "d" * 64}).version
    client.set_registered_model_alias("banking_assistant", "champion", version)
    with pytest.raises(AirflowFailException, match="somebody moved it by hand"):
        follow(dag, *(report(storage, day, "FAIL") for day in (22, 23)))
    assert not Ledger(storage, "banking_assistant").orders()
    client.delete_registered_model("banking_assistant")
