"""Telling from Airflow's processes: kept first, sent at once, and never at the cost of a run."""

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG
from airflow.sdk.api.datamodels._generated import DagRun
from told import drift, hook_connection, unused_port
from upath import UPath

from nightshift.alerts.outbox import Outbox
from nightshift.jobs.contract import ResultFile, spec_digest
from nightshift.jobs.validate import Spec
from nightshift.orchestration import telling
from nightshift.orchestration.local_job import LocalJob
from nightshift.orchestration.telling import late_after, notify, run_callbacks, run_is_late
from nightshift.settings.applications import load_application
from nightshift.storage.files import replace

FILE = """\
schedule: null
sources: [{uri: "/data/x.csv", columns: {prompt: text, answer: intent}}]
alerts: {late_after_hours: 2, routes: [{to: hook}]}
"""
NOW = datetime(2026, 11, 22, 5, tzinfo=UTC)


@pytest.fixture
def app(project, tmp_path, monkeypatch):
    """An application whose only route is dead, and whose storage is a folder."""
    (project / "apps" / "bank.yaml").write_text(FILE)
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", (tmp_path / "storage").as_uri())
    monkeypatch.setenv("AIRFLOW_CONN_HOOK", hook_connection(unused_port()))
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.org/x/")
    return load_application("bank")


@pytest.fixture
def box(app, tmp_path):
    return Outbox((tmp_path / "storage").as_uri(), "bank")


def dag_run(**fields):
    return DagRun(
        **{
            "dag_id": "bank_ingest", "run_id": "scheduled__2026-11-21T00:00:00+00:00", "logical_date": NOW,
            "data_interval_start": NOW - timedelta(hours=29), "data_interval_end": NOW - timedelta(hours=5),
            "run_after": NOW, "start_date": NOW, "end_date": None, "run_type": "scheduled", "state": "failed",
            "consumed_asset_events": [], "partition_key": None, **fields,
        }
    )  # fmt: skip


def context(**fields):
    log = "https://airflow.example.org/x/log"
    ti = SimpleNamespace(task_id="ingest", dag_id="bank_ingest", run_id="r", log_url=log, xcom_push=lambda *_: None)
    return {"dag_run": dag_run(**fields), "ti": ti, "reason": "task_failure"}


def callback(app, name):
    return getattr(DAG("bank_ingest", schedule=None, **run_callbacks(app, "bank_ingest")), name)


def test_a_dead_channel_costs_a_run_nothing_and_loses_no_alert(app, box):
    notify(app, [drift()])
    assert [alert.night for alert in box.undelivered()] == ["2026-11-20"]
    assert [message.subject for message in box.messages(10)] == ["[bank] WARNING: drift in the interval 2026-11-20"]
    (waiting,) = box.waiting(app.alerts)
    assert "Connection error" in waiting.error


def test_a_storage_that_is_away_costs_a_run_nothing(app, monkeypatch, caplog):
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", "file:///proc/nothing/here")
    notify(app, [drift()])
    assert "an alert of bank could not be kept: drift in the interval 2026-11-20" in caplog.text


def test_a_storage_that_does_not_answer_holds_up_a_task_for_a_while_only(app, monkeypatch, caplog):
    answers = threading.Event()
    monkeypatch.setattr(telling, "LONGEST_SECONDS", 0.1)
    monkeypatch.setattr(telling, "_outbox", lambda *_: answers.wait(30))
    began = time.monotonic()
    notify(app, [drift()])
    assert time.monotonic() - began < 5
    assert "alerts of bank take long" in caplog.text
    answers.set()


def test_one_alert_that_cannot_be_kept_keeps_no_other_from_people(app, box):
    notify(app, [drift("2026-11-20\x00", subject="\ud800"), drift("2026-11-21")])
    assert "2026-11-21" in [alert.night for alert in box.undelivered()]


def test_a_failed_run_is_told_with_its_task_and_with_addresses_that_people_reach(app, box):
    callback(app, "on_failure_callback")(context())
    assert box.messages(10) == []  # the callbacks of all applications share a process with little time
    (alert,) = box.undelivered()
    assert (alert.kind, alert.severity, alert.title, alert.night) == (
        "job_failed", "critical", "bank_ingest: ingest failed", "2026-11-21",
    )  # fmt: skip
    run = "bank_ingest/runs/scheduled__2026-11-21T00%3A00%3A00%2B00%3A00"
    assert alert.links["Run"] == f"https://airflow.example.org/x/dags/{run}"
    assert alert.links["Task log"] == "https://airflow.example.org/x/log"
    assert alert.links["Nightshift"].startswith("https://airflow.example.org/x/nightshift/apps/bank/runs/bank_ingest/")


def test_a_run_that_works_again_is_told_where_the_last_one_had_failed(app, box):
    callback(app, "on_success_callback")(context(state="success"))
    assert box.undelivered() == []
    callback(app, "on_failure_callback")(context())
    callback(app, "on_success_callback")(context(state="success"))
    assert [alert.good for alert in box.undelivered()] == [False, True]
    assert box.open() == []


def test_a_callback_that_knows_nothing_but_names_tells_all_the_same(app, box):
    callback(app, "on_failure_callback")({"dag": SimpleNamespace(dag_id="bank_ingest"), "run_id": "r", "reason": "x"})
    assert [alert.title for alert in box.undelivered()] == ["bank_ingest: it failed"]


def late(**fields):
    run = {
        "dag_run_id": "r",
        "dag_id": "bank_ingest",
        "state": "running",
        "queued_at": "2026-11-22T01:00:00Z",
        **fields,
    }
    asyncio.run(run_is_late("bank", context={"dag_run": run, "deadline": {}}))


def test_a_late_run_is_kept_and_sent_by_the_dag_because_the_triggerer_waits_for_nobody(app, box):
    late()
    (alert,) = box.undelivered()
    assert (alert.kind, alert.title) == ("deadline_missed", "bank_ingest is not done after 4 hours")
    assert box.messages(10) == []


@pytest.mark.usefixtures("app")
def test_a_run_that_failed_in_time_is_not_late_too(box):
    late(state="failed")
    assert box.undelivered() == []


def test_a_late_run_that_fails_is_told_as_failed_and_as_nothing_else(app, box):
    late(dag_run_id=dag_run().run_id)
    assert [alert.kind for alert in box.open()] == ["deadline_missed"]
    callback(app, "on_failure_callback")(context())
    assert [alert.kind for alert in box.open()] == ["job_failed"]


def test_people_who_are_asked_and_data_that_arrives_have_their_own_time(app):
    asking = app.model_copy(update={"approval": app.approval.model_copy(update={"required": "always"})})
    hours = [late_after(one, dag) for one in (app, asking) for dag in ("bank_release", "bank_finetune")]
    assert hours == [2, 2, 26, 2]
    assert (late_after(app, "bank_ingest"), late_after(app, "bank_batch_inference")) == (2 + 2, 2 + 2 + 4)


def test_the_event_loop_of_the_triggerer_goes_on_while_a_slow_storage_is_written(monkeypatch):
    monkeypatch.setattr(telling, "_keep_late", lambda *_: time.sleep(0.5))
    ticks = []

    async def tick():
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def both():
        other = asyncio.create_task(tick())
        await run_is_late("bank", context={"dag_run": {}})
        other.cancel()

    asyncio.run(both())
    assert len(ticks) > 10


def task_with_result(app, storage, verdict):
    """A task of the job validate, and the result that its job left."""
    spec = Spec(
        application=app, storage=storage.as_uri(), examples=f"{storage.as_uri()}/bank/examples/2026-11-21", digest="d"
    )
    result = {"verdict": verdict, "reasons": ["12 % empty"], "measures": {}, "data_docs": "", "run_url": ""}
    file = ResultFile(
        job="validate", spec_digest=spec_digest(spec), started=NOW, ended=NOW, peak_memory_gb=0, code_version="1",
        result=result,
    )  # fmt: skip
    uri = f"{storage.as_uri()}/result.json"
    replace(UPath(uri), file.model_dump_json().encode())
    return LocalJob(task_id="validate", application="bank", job="validate", arguments={}), spec, uri


def test_what_a_job_says_is_told_by_its_task_and_the_failed_run_says_nothing_more(app, box, tmp_path):
    task, spec, uri = task_with_result(app, tmp_path / "storage", "FAIL")
    with pytest.raises(Exception, match="12 % empty"):
        task.answer(spec, uri, context())
    callback(app, "on_failure_callback")(context())
    assert [alert.kind for alert in box.undelivered()] == ["data_rejected"]
    task, spec, uri = task_with_result(app, tmp_path / "storage", "PASS")
    task.answer(spec, uri, context())
    assert box.open() == []


def test_a_result_that_cannot_be_told_fails_no_task(app, tmp_path, caplog):
    task, spec, uri = task_with_result(app, tmp_path / "storage", "PASS")
    assert task.answer(spec, uri, {**context(), "dag_run": None})["verdict"] == "PASS"
    assert "the alerts of the result of validate could not be sent" in caplog.text
