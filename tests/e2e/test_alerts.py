"""Alerts by the real scheduler, DAG processor and triggerer: what a killed task, a late run and a silent failure tell."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from patience import wait_for
from upath import UPath

from nightshift.alerts.global_alerts import ALL_APPLICATIONS
from nightshift.alerts.outbox import Outbox
from nightshift.settings.people import Kind
from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.environment import airflow_environment
from nightshift.stack.place import this_place

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def told_stack(running_stack, receiver):
    """The stack, which knows where the application `told` tells everything."""
    hook = {
        "conn_type": "apprise",
        "extra": {"config": {"path": f"json://127.0.0.1:{receiver.server_address[1]}/alerts"}},
    }
    # In Airflow's database, where a DAG processor, a worker and its threads have no way but to ask for it.
    subprocess.run(
        [sys.executable, "-m", "airflow", "connections", "add", "hook", "--conn-json", json.dumps(hook)],
        env=airflow_environment(this_place(running_stack)),
        check=True,
        capture_output=True,
    )
    return running_stack


@pytest.fixture(scope="module")
def told_api(told_stack):
    with AirflowApi(this_place(told_stack)) as api:
        wait_for(lambda: api.has_dag("nightshift_alerts") and api.has_dag("told_ingest"), 240, "the DAGs", every=1)
        api.unpause("told_ingest")
        yield api


def box(environment, name="told"):
    return Outbox(UPath(this_place(environment).storage).as_uri(), name)


def kept(environment):
    """All alerts that were told or wait to be."""
    outbox = box(environment)
    return [*outbox.undelivered(), *(alert for message in outbox.messages(50) for alert in message.alerts)]


def subjects(environment):
    """What those alerts are about."""
    return {(alert.kind, alert.subject) for alert in kept(environment)}


def state_of(api, dag, run):
    return next((row["state"] for row in api.runs(dag) if row["dag_run_id"] == run), None)


def states_of(api, run):
    return {task["state"] for task in api.tasks("told_ingest", run)}


def ended(api, dag, run, seconds=300):
    return wait_for(
        lambda: (state := state_of(api, dag, run)) in {"success", "failed"} and state, seconds, f"{dag} {run}", every=1
    )


def look(api, run):
    """Let the DAG of the alerts look and deliver now."""
    api.trigger("nightshift_alerts", run, {})
    assert ended(api, "nightshift_alerts", run) == "success"


@pytest.fixture(scope="module")
def evening(told_api, told_stack, time_passes, task_process, job_process):
    """All that goes wrong in one evening: a task that is killed in each of its tries, a run that a person marks as failed, and
    an application file that is wrong."""
    wrong = Path(told_stack["NIGHTSHIFT_PROJECT"]) / "apps" / "wrong.yaml"
    wrong.write_text("schedule: never\n")
    told_api.trigger("told_ingest", "silent", {"day": "2026-11-03"})
    wait_for(lambda: state_of(told_api, "told_ingest", "silent") == "running", 120, "the run", every=0.5)
    # Marked as failed in the UI, a run calls nothing.
    told_api._call("PATCH", "/api/v2/dags/told_ingest/dagRuns/silent", json={"state": "failed"})
    told_api.trigger("told_ingest", "killed", {"day": "2026-11-02"})
    for number in range(3):
        job = wait_for(lambda: job_process("ingest", "/killed/"), 180, f"try {number + 1} of the ingest task")
        os.killpg(job.pid, signal.SIGSTOP)  # it would be done before it is killed
        if number == 2:
            wait_for(
                lambda: (Kind.DEADLINE_MISSED, "told_ingest killed") in subjects(told_stack), 120, "lateness", every=0.5
            )
        task_process(told_api, "told_ingest", "killed", "ingest").kill()
        os.killpg(job.pid, signal.SIGCONT)
        wait_for(lambda: not job.is_running() or job.status() == psutil.STATUS_ZOMBIE, 30, "the job to end")  # noqa: B023
        if number < 2:
            wait_for(lambda: "up_for_retry" in states_of(told_api, "killed"), 60, "the next try", every=0.5)
            time_passes("killed")
    assert ended(told_api, "told_ingest", "killed") == "failed"
    wait_for(lambda: any("wrong.yaml" in text for text in told_api.import_errors()), 180, "the import error", every=1)
    wait_for(lambda: any("Task log" in alert.links for alert in kept(told_stack)), 120, "the callback", every=0.5)
    time_passes("silent")
    look(told_api, "look")
    # What that one found, the delivery beside it may have missed.
    look(told_api, "next-look")
    yield "evening"
    wrong.unlink()


FAILED = "CRITICAL: told_ingest: ingest failed"


def test_a_task_that_the_kernel_killed_is_told_once_through_the_callback_of_its_dag(evening, receiver, told_stack):
    (part,) = receiver.told(FAILED, "run killed")
    assert f"{this_place(told_stack).airflow_url}/dags/told_ingest/runs/killed" in part
    assert "Task log: " in part  # which only the callback knows, and not the look


def test_a_late_run_is_noticed_by_the_triggerer_and_its_failure_is_the_last_word(evening, receiver, told_stack):
    assert receiver.told("WARNING: told_ingest is not done after", "run killed")
    assert {alert.kind for alert in box(told_stack).open()} == {"job_failed"}


def test_a_run_that_failed_without_a_word_is_found_by_the_look(evening, receiver):
    (part,) = receiver.told("CRITICAL: ", "run silent")
    assert "Task log: " not in part


def test_a_wrong_application_file_is_told_to_the_routes_of_the_others(evening, receiver, told_stack):
    (part,) = receiver.told("CRITICAL: Airflow cannot read")
    assert "wrong.yaml" in part
    (body,) = [body for body in receiver.taken if part in body["message"]]
    assert body["title"].startswith("[all-applications] CRITICAL: ")
    assert body["type"] == "failure"
    assert [alert.condition[:6] for alert in box(told_stack, ALL_APPLICATIONS).open()] == ["import"]


def test_a_look_leaves_nothing_undelivered_and_sends_a_sign_of_life(evening, receiver, told_stack):
    assert box(told_stack).undelivered() == []
    assert receiver.beats >= 1
    assert box(told_stack).last_look()


def test_the_page_of_the_run_is_where_the_message_says(evening, receiver):
    (part,) = receiver.told(FAILED, "run killed")
    (address,) = re.findall(r"Run: (\S+)", part)
    assert httpx.get(address, trust_env=False, follow_redirects=True).status_code == 200


def test_a_run_that_works_again_is_told_and_nothing_else_anew(evening, told_api, receiver):
    told_api.trigger("told_ingest", "well", {"day": "2026-11-02"})
    assert ended(told_api, "told_ingest", "well") == "success"
    # Its callback may come after a look began; the next one brings it then.
    for number in range(10):
        look(told_api, f"look-again-{number}")
        if receiver.told("RECOVERED: told_ingest works again"):
            break
    assert receiver.told("RECOVERED: told_ingest works again")
    assert len(receiver.told(FAILED, "run killed")) == 1
    assert len(receiver.told("CRITICAL: Airflow cannot read")) == 1
