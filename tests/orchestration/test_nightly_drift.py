"""The DAG of the nightly drift: what it asks the job, and what becomes of the answer."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.utils.dag_version_inflation_checker import check_dag_file_stability
from jinja2 import Environment

FILE = Path(__file__).parents[2] / "dags" / "nightly_drift.py"
ORDER = {"number": 1, "reason": "2 of 3 nights failed", "numbers": {}, "nights": [], "reports": ["file:///report"]}


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
        "macros": SimpleNamespace(timedelta=timedelta),
    }
    arguments = dag.get_task("drift").arguments
    return {key: Environment(autoescape=True).from_string(text).render(context) for key, text in arguments.items()}


def result(verdict="PASS", order=None, missing=None):
    return {
        "verdict": verdict, "reasons": ["as said"], "nights": [], "missing": missing, "order": order,
        "why_not": "the nights were quiet",
    }  # fmt: skip


def test_only_the_clock_misses_a_night_that_did_not_come(dag):
    fired = datetime(2026, 11, 6, 5, tzinfo=UTC)
    assert arguments_of(dag, run_type="scheduled", logical_date=fired)["expected_by"] == str(fired)
    assert arguments_of(dag, run_type="asset_triggered") == {"night": "", "expected_by": ""}
    assert arguments_of(dag, logical_date=fired, night="2026-11-03") == {"night": "2026-11-03", "expected_by": ""}


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


def test_an_order_is_announced_and_its_absence_is_explained(dag):
    announced = dag.get_task("retraining")
    (asset,) = announced.outlets
    event = SimpleNamespace(extra=None)
    announced.python_callable(result(order=ORDER), ti=SimpleNamespace(task=announced), outlet_events={asset: event})
    assert event.extra == ORDER
    with pytest.raises(AirflowSkipException, match="no retraining: the nights were quiet"):
        announced.python_callable(result(), ti=SimpleNamespace(task=announced), outlet_events={})
