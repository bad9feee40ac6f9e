"""The DAG files: light, stable, and tolerant of one bad application."""

import hashlib
import json
import os
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
import yaml
from airflow.dag_processing import dagbag as dag_bags
from airflow.dag_processing.dagbag import BundleDagBag, DagBag
from airflow.sdk.exceptions import ParamValidationError
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import StartupDetails
from airflow.serialization.serialized_objects import DagSerialization
from airflow.utils.dag_version_inflation_checker import check_dag_file_stability

from nightshift.settings import applications
from nightshift.settings.applications import application_names

ROOT = Path(__file__).parents[2]
KINDS = (
    "acknowledge",
    "index",
    "ingest",
    "finetune",
    "release",
    "batch_inference",
    "nightly_drift",
    "nightly_bias",
    "reconfigure",
    "retraining",
    "rollback",
    "search",
)
HOUSEKEEPING = {"nightshift_alerts", "nightshift_audit"}
HEAVY = [
    "torch",
    "transformers",
    "mlflow",
    "evidently",
    "great_expectations",
    "pandas",
    "polars",
    "duckdb",
    "kubernetes",
]

SECOND = """\
description: Answers questions about returns.
schedule: null
sources:
  - uri: /data/returns/{start:%Y-%m-%d}.jsonl
    columns: {prompt: question, answer: reply}
"""


def dagbag() -> DagBag:
    return DagBag(ROOT / "dags")


@pytest.fixture(scope="module")
def dags():
    return dagbag().dags


def test_every_application_has_its_dags_and_nothing_fails_to_import():
    bag = dagbag()
    assert bag.import_errors == {}
    assert set(bag.dags) == HOUSEKEEPING | {f"{name}_{kind}" for name in application_names() for kind in KINDS}


def test_every_dag_says_who_owns_it_what_it_does_and_retries(dags):
    for name, dag in dags.items():
        owner = "nightshift" if name in HOUSEKEEPING else "bank-support"
        assert dag.doc_md
        assert dag.tags >= {"nightshift"}
        assert all(task.retries >= 1 and task.owner == owner for task in dag.tasks)


def test_the_dashboard_shows_every_dag_that_looks_after_the_others():
    from nightshift.dashboard.airflow_state import HOUSEKEEPING

    files = {path.stem for path in (ROOT / "dags").glob("*.py") if "housekeeping_dag(" in path.read_text()}
    assert set(HOUSEKEEPING) == {f"nightshift_{name}" for name in files}


def test_every_pool_that_a_task_waits_for_is_in_the_settings(dags):
    settings = yaml.safe_load((ROOT / "airflow_settings.yaml").read_text())["airflow"]
    pools = {pool["pool_name"] for pool in settings["pools"]}
    # Housekeeping waits in the pool that every Airflow has.
    assert {task.pool for dag in dags.values() for task in dag.tasks} <= {*pools, "default_pool"}


def test_the_dag_files_import_no_heavy_library():
    files = [str(path) for path in (ROOT / "dags").glob("*.py")]
    code = f"import runpy, sys; [runpy.run_path(path) for path in {files}]; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(run.stdout.split())


SERIALISE = """
import hashlib, json, logging, sys
logging.disable()
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
def digests(folder):
    for name, dag in sorted(DagBag(folder).dags.items()):
        text = json.dumps(DagSerialization.serialize_dag(dag), sort_keys=True, default=str)
        yield f"DAG {name} {hashlib.sha256(text.encode()).hexdigest()}"
print(*digests(sys.argv[1]), sep="\\n")
"""


@pytest.mark.slow
def test_serialising_a_dag_in_two_processes_gives_the_same_bytes(dags):
    """Another process has another order of its sets. The order of keys is Airflow's own, who sorts before comparing."""
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    other = subprocess.run(
        [sys.executable, "-c", SERIALISE, str(ROOT / "dags")],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    mine = {
        name: json.dumps(DagSerialization.serialize_dag(dag), sort_keys=True, default=str) for name, dag in dags.items()
    }
    assert [line for line in other.stdout.splitlines() if line.startswith("DAG ")] == [
        f"DAG {name} {hashlib.sha256(text.encode()).hexdigest()}" for name, text in sorted(mine.items())
    ]


# Two that end like a kind of DAG, and one whose DAGs begin like those of housekeeping.
SIMILAR = ("returns", "returns_finetune", "finetune", "nightshift")


@pytest.fixture
def similar_applications(project, monkeypatch):
    for name in SIMILAR:
        (project / "apps" / f"{name}.yaml").write_text(SECOND)
    # Airflow's own context manager leaves the variables behind.
    for variable in ("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "_AIRFLOW_PARSING_CONTEXT_TASK_ID"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    return project


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_builds_only_its_own_dag_and_the_same_that_the_dag_processor_built(
    similar_applications, monkeypatch, kind
):
    file = ROOT / "dags" / f"{kind}.py"
    built = {name: DagSerialization.to_json(dag) for name, dag in DagBag(file).dags.items()}
    assert set(built) == {f"{name}_{kind}" for name in SIMILAR}
    for name, text in built.items():
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", name)
        assert {name: DagSerialization.to_json(dag) for name, dag in DagBag(file).dags.items()} == {name: text}


@pytest.mark.parametrize("dag_id", ["nightshift_alerts", "returns_ingest", "returns_finetune_release", "finetune"])
def test_a_task_of_another_dag_builds_none_of_this_file(similar_applications, monkeypatch, dag_id):
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag_id)
    assert DagBag(ROOT / "dags" / "finetune.py").dags == {}


def test_a_task_whose_application_cannot_be_read_any_more_finds_no_dag(similar_applications, monkeypatch):
    (similar_applications / "apps" / "returns.yaml").write_text("sources: 3\n")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "returns_finetune")
    bag = DagBag(ROOT / "dags" / "finetune.py")
    assert (bag.dags, bag.import_errors) == ({}, {})


def startup_of(dag_id: str, task_id: str, file: str) -> StartupDetails:
    """What Airflow's supervisor sends to the process of a task."""
    now, one = datetime(2026, 11, 28, tzinfo=UTC), {"dag_id": dag_id, "run_id": "by_hand"}
    nothing = dict.fromkeys(["logical_date", "data_interval_start", "data_interval_end", "end_date", "partition_key"])
    run = {**one, **nothing, "run_after": now, "start_date": now, "run_type": "manual", "state": "running"}
    ids = {"id": uuid.uuid4(), "dag_version_id": uuid.uuid4()}
    return StartupDetails(
        ti={**one, **ids, "task_id": task_id, "try_number": 1},
        dag_rel_path=file,
        bundle_info={"name": "dags-folder"},
        start_date=now,
        ti_context={"dag_run": {**run, "consumed_asset_events": []}, "max_tries": 0},
        sentry_integration="",
    )


def test_airflow_tells_the_process_of_a_task_which_dag_it_is_for(similar_applications, monkeypatch):
    """With Airflow's own start of a task: it builds one DAG, and reads one application's file."""
    bags, read = [], []

    class Seen(BundleDagBag):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            bags.append(self)

    one_read = applications.read_application
    monkeypatch.setattr(dag_bags, "BundleDagBag", Seen)
    monkeypatch.setattr(applications, "read_application", lambda path: read.append(path.stem) or one_read(path))
    monkeypatch.setattr("setproctitle.setproctitle", lambda _: None)
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which Airflow adds the folder
    ti, _, _ = task_runner.startup(startup_of("returns_finetune", "train", "finetune.py"))
    assert ti.task.task_id == "train"
    assert [set(bag.dags) for bag in bags] == [{"returns_finetune"}]
    assert read == ["returns"]


KUBERNETES = "backend: kubernetes\nimage: trainer:1\nnodes: {nodes}\n"


def test_what_a_task_returns_is_stored_once(sample_project, monkeypatch):
    """By its annotation Airflow would take each key of it for a result of its own."""
    (sample_project / "compute" / "local.yaml").write_text(KUBERNETES.format(nodes=1))
    stored = []
    monkeypatch.setattr(task_runner.XCom, "set", lambda **given: stored.append((given["task_id"], given["key"])))
    dags = dagbag().dags
    tasks = [task for dag in dags.values() for task in dag.tasks if getattr(task, "do_xcom_push", False)]  # not mapped
    for task in tasks:
        ti = SimpleNamespace(
            task=task, task_id=task.task_id, dag_id=task.dag_id, run_id="r", map_index=-1, is_mapped=False,
            xcom_push=lambda key, _, task=task: stored.append((task.task_id, key)),
        )  # fmt: skip
        task_runner._push_xcom_if_needed({"verdict": "PASS", "reasons": ["good"]}, ti, structlog.get_logger())
    assert stored == [(task.task_id, "return_value") for task in tasks]
    assert {
        "release",
        "promote",
        "due",
        "close",
        "step_in",
        "retraining",
        "usage_banking_assistant",
        "sweep_local",
    } <= {*dict(stored)}


def structure(dag) -> dict:
    """What a person sees of a DAG, and what its tasks are given."""
    return {
        "schedule": str(dag.schedule),
        "params": list(dag.params),
        "tasks": {task.task_id: task_structure(task) for task in dag.tasks},
    }


def task_structure(task) -> tuple:
    given = (getattr(task, "job", None), str(getattr(task, "arguments", None)))
    outlets = [str(outlet) for outlet in task.outlets]
    return (sorted(task.downstream_task_ids), task.pool, task.retries, str(task.trigger_rule), outlets, *given)


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [1, 2])
def test_every_dag_is_the_same_on_a_cluster(dags, sample_project, nodes):
    (sample_project / "compute" / "local.yaml").write_text(KUBERNETES.format(nodes=nodes))
    bag = dagbag()
    assert bag.import_errors == {}
    assert set(bag.dags) - set(dags) == {"nightshift_janitor", "nightshift_usage"}
    clustered = {name: dag for name, dag in bag.dags.items() if name in dags}
    assert {name: structure(dag) for name, dag in clustered.items()} == {
        name: structure(dag) for name, dag in dags.items()
    }
    operators = {type(task).__name__ for dag in clustered.values() for task in dag.tasks if hasattr(task, "job")}
    assert operators == ({"PodJob"} if nodes == 1 else {"PodJob", "GroupJob"})
    for dag in clustered.values():
        DagSerialization.from_dict(DagSerialization.to_dict(dag))


def test_jobs_of_a_local_profile_go_to_the_workers_that_it_names_and_end_at_its_deadline(similar_applications):
    (similar_applications / "apps" / "returns.yaml").write_text(SECOND + "compute: {default: local, train: big}\n")
    profiles = similar_applications / "compute"
    (profiles / "local.yaml").write_text("backend: local\n")
    (profiles / "big.yaml").write_text(
        "backend: local\nqueue: big_machines\nexecutor: LocalExecutor\ndeadline_hours: 36\n"
    )
    dag = DagBag(ROOT / "dags" / "finetune.py").dags["returns_finetune"]
    placed = {task.task_id: (task.queue, task.executor, task.execution_timeout) for task in dag.tasks}
    assert placed["train"] == ("big_machines", "LocalExecutor", timedelta(hours=36))
    assert placed["snapshot"] == ("default", None, timedelta(hours=24))
    assert placed["announce"] == ("default", None, None)


def test_every_field_of_the_form_that_starts_a_training_reaches_a_job(dags):
    dag = dags["banking_assistant_finetune"]
    passed = "".join(str(getattr(task, "arguments", "")) for task in dag.tasks)
    assert [name for name in dag.params if f"<{name} of the form>" not in passed] == []
    assert "<min_examples of the form>" in str(dag.get_task("snapshot").arguments)


@pytest.mark.parametrize("file", [f"{kind}.py" for kind in (*KINDS, "alerts", "audit")])
def test_no_dag_file_makes_a_new_version_at_every_parse(file):
    assert not check_dag_file_stability(str(ROOT / "dags" / file)).warnings


def test_a_second_application_is_one_file_and_a_bad_one_breaks_only_its_own_dags(project):
    (project / "apps" / "returns_helper.yaml").write_text(SECOND)
    (project / "apps" / "broken.yaml").write_text("sources: 3\n")
    bag = dagbag()
    assert set(bag.dags) == HOUSEKEEPING | {f"returns_helper_{kind}" for kind in KINDS}
    (error,) = bag.import_errors.values()
    assert f"{project / 'apps' / 'broken.yaml'}:1: sources" in error


def test_the_question_to_approvers_takes_no_words_from_the_form_of_the_run(dags):
    """Airflow fills a field of the question with what the run's form says under the same name."""
    release = dags["banking_assistant_release"]
    question = set(release.get_task("approve").params)
    assert question
    assert not question & set(release.params)


def test_every_field_of_every_form_says_what_it_is_and_what_it_takes(dags):
    for dag in dags.values():
        for name in dag.params:
            param = dag.params.get_param(name)
            schema = param.schema
            assert len(param.description) > 10, f"{dag.dag_id}: {name}"
            kinds = {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])
            if kinds & {"integer", "number"}:
                assert {"minimum", "exclusiveMinimum"} & set(schema), f"{dag.dag_id}: {name} has no bound"
    day = dags["banking_assistant_ingest"].params.get_param("day")
    assert "from 2026-11-02 to 2026-11-09" in day.description


@pytest.mark.parametrize(
    "conf",
    [
        {"epochs": 0},
        {"epochs": "many"},
        {"learning_rate": 2},
        {"method": "qlora"},
        {"zero_stage": 4},
        {"sequence_length": 3},
        {"until": "yesterday"},
        {"base_model": ""},
    ],
)
def test_the_form_refuses_a_value_out_of_bounds(dags, conf):
    params = dags["banking_assistant_finetune"].params
    params.validate()
    with pytest.raises(ParamValidationError, match=f"param {next(iter(conf))}"):
        params.update(conf)
