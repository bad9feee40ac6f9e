"""What a run did: its tasks with their results, its pods with their accounts, and what waits for people."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from nightshift.alerts.alert import Alert
from nightshift.alerts.outbox import Outbox
from nightshift.jobs.contract import ResultFile
from nightshift.ledger.pod_accounts import PodUsage, usage_address
from nightshift.ledger.records import Request
from nightshift.orchestration.attempt import results_of

RUN = "manual__2026-11-28T10:00:00+00:00"
DAG = """\
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
for name in ("ran_finetune", "nightshift_usage", "nightshift_alerts", "nightshift_foreign"):
    with DAG(name, schedule=None):
        EmptyOperator(task_id="due") >> EmptyOperator(task_id="snapshot") >> EmptyOperator(task_id="approve")
"""


@pytest.fixture(scope="module")
def in_airflow(airflow, tmp_path_factory):
    """A run of `ran_finetune` in Airflow's database, of which one task ended and one asks a person."""
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.hitl import HITLDetail
    from airflow.models.xcom import XComModel
    from airflow.utils.db import synchronize_log_template
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType
    from sqlalchemy import delete

    folder = tmp_path_factory.mktemp("dags")
    (folder / "ran.py").write_text(DAG)
    synchronize_log_template()
    DagBundlesManager().sync_bundles_to_db()
    sync_bag_to_db(DagBag(folder), "dags-folder", None)
    with create_session() as session:
        # Tests of metrics that share this process have a run of housekeeping.
        session.execute(delete(DagRun).where(DagRun.dag_id.like("nightshift_%")))
        run = trigger_dag("ran_finetune", triggered_by=DagRunTriggeredByType.TEST, run_id=RUN, conf={}, session=session)
        run.state, run.start_date = "running", datetime.now(UTC)
        ended, asking = (run.get_task_instance(task, session=session) for task in ("snapshot", "approve"))
        ended.state, ended.try_number = "success", 2
        ended.start_date, ended.end_date = datetime.now(UTC) - timedelta(seconds=30), datetime.now(UTC)
        asking.state = "awaiting_input"
        said = {"order": 3, "reason": "2 of 3 nights <failed>", "reports": []}
        XComModel.set("return_value", said, dag_id="ran_finetune", task_id="due", run_id=RUN, session=session)
        asked = {"subject": "ran: release version 2?", "assignees": [{"id": "2", "name": "alice"}]}
        session.add(HITLDetail(ti_id=asking.id, options=["Approve"], **asked))
        session.get(DagModel, "nightshift_usage").is_paused = True
        session.get(DagModel, "nightshift_alerts").is_paused = False
    yield
    with create_session() as session:
        for dag in ("nightshift_usage", "nightshift_alerts"):
            session.get(DagModel, dag).is_stale = True


@pytest.fixture
def ran(in_airflow, applications):
    app = applications("ran")
    app.champion()
    return app


def test_a_run_shows_its_tasks_with_what_their_newest_try_answered(visit, ran, tmp_path):
    folder = tmp_path.joinpath("storage", "ran", *results_of("ran_finetune", RUN, "snapshot", None))
    for number, verdict in ((1, "FAIL"), (2, "PASS")):
        result = {
            "verdict": verdict, "reasons": [f"try {number} found <b>2,448</b> examples"], "examples": 2448,
            "run_url": "http://mlflow.test/#/runs/1", "evaluation": "s3://where-it-was/ran/evaluations/0123456789abcdef",
            "secret": "javascript:alert(1)", "snapshot_digest": "d" * 64,
        }  # fmt: skip
        file = ResultFile(
            job="snapshot", spec_digest="s", started=datetime.now(UTC), ended=datetime.now(UTC), peak_memory_gb=0.5,
            code_version="1", result=result,
        )  # fmt: skip
        (folder / f"try-{number}").mkdir(parents=True)
        (folder / f"try-{number}" / "result.json").write_text(file.model_dump_json())
    page = visit("/apps/ran/runs/ran_finetune/manual__2026-11-28T10%3A00%3A00%2B00%3A00").text
    assert "try 2 found &lt;b&gt;2,448&lt;/b&gt; examples" in page
    assert "try 1 found" not in page
    assert "examples 2,448" in page
    assert 'href="http://mlflow.test/#/runs/1" target="_blank" rel="noopener noreferrer">MLflow run</a>' in page
    assert 'href="/nightshift/apps/ran/reports/evaluations/0123456789abcdef/report.html"' in page
    assert 'href="javascript' not in page
    assert '/dags/ran_finetune/runs/manual__2026-11-28T10%3A00%3A00%2B00%3A00/tasks/approve" target="_top"' in page


def test_tasks_that_have_not_begun_follow_in_the_order_of_the_dag(visit, ran):
    page = visit(f"/apps/ran/runs/ran_finetune/{RUN.replace('+', '%2B')}").text
    assert re.findall(r"/tasks/(\w+)\"", page) == ["snapshot", "due", "approve"]


def test_a_failed_task_without_a_result_points_to_its_log(visit, ran):
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import update

    address = f"/apps/ran/runs/ran_finetune/{RUN.replace('+', '%2B')}"
    for state, pointed in (("failed", True), ("awaiting_input", False)):
        with create_session() as session:
            one = (TaskInstance.run_id == RUN, TaskInstance.task_id == "approve")
            session.execute(update(TaskInstance).where(*one).values(state=state))
        assert ("no result; the task's log says why" in visit(address).text.replace("&#39;", "'")) is pointed


def test_a_task_that_only_decides_shows_what_it_returned(visit, ran):
    page = visit("/apps/ran/runs/ran_finetune/manual__2026-11-28T10%3A00%3A00%2B00%3A00").text
    assert "2 of 3 nights &lt;failed&gt;" in page
    assert "order 3" in page
    assert "GB" not in page


def test_a_run_shows_what_its_pods_used_and_how_to_look_at_them(visit, ran, tmp_path):
    from upath import UPath

    now = datetime.now(UTC)
    for run_id, pod in ((RUN, "train-0"), ("another", "train-9")):
        used = PodUsage(
            pod=pod, uid=f"{pod}-uid", namespace="nightshift", node="gpu-node-1", job="train", dag_id="ran_finetune",
            run_id=run_id, task_id="train", started=now - timedelta(hours=2), ended=now, gpus=4, price_per_hour=3.5,
        )  # fmt: skip
        address = usage_address(UPath(ran.storage), "ran", used)
        address.parent.mkdir(parents=True, exist_ok=True)
        address.write_text(used.model_dump_json())
    page = visit(f"/apps/ran/runs/ran_finetune/{RUN.replace('+', '%2B')}").text
    pods = re.search(r'<h2 id="pods">.*?</section>', page, re.S)[0]
    assert "kubectl --namespace nightshift describe pod train-0" in pods
    assert "train-9" not in pods
    assert [re.sub(r"<.*?>", "", cell) for cell in re.findall(r'<td class="num">.*?</td>', pods)] == ["2", "8", "7"]
    assert "gpu-node-1" in pods
    week = re.search(r'<section id="week".*?</section>', visit("/apps/ran").text, re.S)[0]
    assert re.search(r"GPU-hours</span>.*?<span class=\"num\">16</span>", week, re.S)


def test_what_waits_for_people_comes_first_and_leads_to_airflows_form(visit, ran):
    Outbox(ran.storage, "ran").accept(
        Alert(application="ran", kind="approval_waits", severity="warning", title="ran: waits", condition="approval 1")
    )
    page = visit("/apps/ran").text
    assert '<span class="badge waiting">waiting</span>' in page
    assert "ran: release version 2?" in page
    assert "alice" in page
    path = f"/dags/ran_finetune/runs/{RUN.replace(':', '%3A').replace('+', '%2B')}/tasks/approve/required_actions"
    assert f'href="{path}" target="_top"' in page
    row = visit("/").text
    assert "1 approval waits" in row
    assert "open alert" not in row  # that somebody is asked is said once


def test_nobody_waits_where_airflow_asks_nobody_any_more(visit, ran, applications):
    now = datetime.now(UTC)
    asked = Request(
        id="1", version="2", model_digest="b" * 64, evaluation_digest="e" * 64, champion_digest=None, verdict="PASS",
        subject="release version 2?", dag_id="helper_release", run_id="ended_by_hand", task_id="ask", asked=now,
        until=now + timedelta(days=1),
    )  # fmt: skip
    applications("helper").ledger.create(asked)
    for path in ("/", "/apps/helper"):
        assert '<span class="badge new">new</span>' in visit(path).text


def test_runs_in_progress_say_what_they_do(visit, ran):
    runs = re.search(r'<section id="runs".*?</section>', visit("/apps/ran").text, re.S)[0]
    assert RUN in runs
    assert "approve awaiting input" in runs
    assert "1 run in progress" in visit("/").text


def test_housekeeping_that_is_paused_is_not_called_late(visit, ran):
    keeping = re.search(r'<section id="keeping".*?</section>', visit("/").text, re.S)[0]
    assert re.search(r"paused</span>\s*<strong>nightshift_usage</strong> does not run until", keeping)
    assert "not run yet</span> nightshift_alerts" in keeping
    assert "on time" not in keeping
    assert "nightshift_foreign" not in keeping


def test_who_sees_no_application_sees_no_housekeeping_either(visit, ran):
    assert "nightshift_usage" not in visit("/", user="newcomer").text


def test_a_run_that_is_gone_or_of_another_application_is_a_sentence(visit, ran, applications):
    applications("helper")
    for path, said in (
        ("/apps/ran/runs/ran_finetune/gone", "There is no run “gone” of ran_finetune"),
        ("/apps/helper/runs/ran_finetune/x", "“ran_finetune” is not a DAG of “helper”."),
    ):
        answer = visit(path)
        assert answer.status_code == 404
        assert said in answer.text


def test_a_result_that_cannot_be_read_costs_its_row(visit, ran, tmp_path):
    folder = tmp_path.joinpath("storage", "ran", *results_of("ran_finetune", RUN, "snapshot", None), "try-2")
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({"job": "snapshot"}))
    page = visit(f"/apps/ran/runs/ran_finetune/{RUN.replace('+', '%2B')}").text
    assert "result.json cannot be read" in page
    assert "awaiting input" in page
