"""Two schedulers on one PostgreSQL, events that come twice, late or never: each order is trained for once."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from upath import UPath

from nightshift.ledger import orders
from nightshift.ledger.records import MonitoredInterval
from nightshift.ledger.store import Ledger
from nightshift.settings.applications import read_application
from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.environment import airflow_environment
from nightshift.stack.place import this_place
from nightshift.stack.preflight import make_folders

pytestmark = [pytest.mark.e2e, pytest.mark.nightly, pytest.mark.timeout(3600)]
FINETUNE, RETRAINING = "tiny_finetune", "tiny_retraining"
DATABASE = "nightshift"
ENDED = {"success", "failed"}
AIRFLOW = {
    "api-server": ["api-server"],
    "dag-processor": ["dag-processor"],
    "scheduler-1": ["scheduler", "--skip-serve-logs"],
    "scheduler-2": ["scheduler", "--skip-serve-logs"],
}


def wait_for(look, seconds: float, what: str):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.5)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


@contextmanager
def running(commands: dict[str, list[str]], logs: Path, **options):
    """Processes in sessions of their own, which are ended with all that they started."""
    started = {}
    try:
        for name, command in commands.items():
            with (logs / f"{name}.log").open("wb") as log:
                started[name] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **options)
        yield started
    finally:
        for process in started.values():
            process.terminate()
        for process in started.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture(scope="module")
def database(tmp_path_factory, unused_port):
    """The URI of an empty database on a PostgreSQL server of its own."""
    import psycopg2

    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres")), shutil.which("postgres")]
    server = next((Path(path).resolve() for path in reversed(found) if path), None)
    if server is None:
        pytest.skip("no PostgreSQL server is installed here (apt-get install postgresql)")
    # The server refuses to run as root, and pytest's folders are closed to everybody else.
    someone = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    folder, password, port = Path(tempfile.mkdtemp(prefix="nightshift-postgres-")), secrets.token_hex(16), unused_port()
    (folder / "password").write_text(password)
    if someone:
        for path in (folder, folder / "password"):
            shutil.chown(path, "nobody", "nogroup")
    data = folder / "data"
    subprocess.run(
        [server.with_name("initdb"), "-D", data, "-U", "nightshift", "-A", "scram-sha-256",
         f"--pwfile={folder / 'password'}", "--no-sync", "-E", "UTF8", "--locale=C"],
        check=True, capture_output=True, cwd=folder, **someone,
    )  # fmt: skip
    command = [server, "-D", data, "-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    uri = f"postgresql://nightshift:{password}@127.0.0.1:{port}"
    with running({"postgres": command}, tmp_path_factory.mktemp("postgres"), cwd=folder, **someone):

        def connect():
            try:
                return psycopg2.connect(f"{uri}/postgres")
            except psycopg2.OperationalError:
                return None

        connection = wait_for(connect, 60, "PostgreSQL")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {DATABASE}")
        connection.close()
        yield f"{uri}/{DATABASE}"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def project(tmp_path_factory, tiny_application):
    """A project with the tiny application alone; one failing night orders a retraining of it."""
    folder = tmp_path_factory.mktemp("two-schedulers-project")
    policy = "retraining: {nights: 1, of_nights: 1, cooldown_days: 0, max_a_week: 10}\n"
    few_steps = tiny_application(tmp_path_factory.mktemp("tiny-model")).replace("rows_per_step: 4", "rows_per_step: 64")
    (folder / "apps").mkdir()
    (folder / "apps" / "tiny.yaml").write_text(few_steps + policy)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory, database, project, mlflow_server, unused_port):
    """Airflow with two schedulers."""
    own = {
        "NIGHTSHIFT_HOME": str(tmp_path_factory.mktemp("two-schedulers")),
        "NIGHTSHIFT_PROJECT": str(project),
        "NIGHTSHIFT_AIRFLOW_PORT": str(unused_port()),
        "NIGHTSHIFT_MLFLOW_PORT": mlflow_server.rpartition(":")[2],
    }
    place = this_place({**os.environ, **own})
    make_folders(place)
    environment = {
        **airflow_environment(place),
        **own,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.replace("postgresql", "postgresql+psycopg2"),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "300",
    }
    prepared = subprocess.run(
        [sys.executable, "-m", "nightshift.stack.prepare"], env=environment, cwd=place.checkout, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert prepared.returncode == 0, prepared.stdout + prepared.stderr
    commands = {name: [sys.executable, "-m", "airflow", *command] for name, command in AIRFLOW.items()}
    with running(commands, place.logs, env=environment, cwd=place.checkout):
        yield place


@pytest.fixture(scope="module")
def api(place):
    def connect():
        try:
            return AirflowApi(place).__enter__()
        except Exception:
            return None

    api = wait_for(connect, 300, "the API server")
    for dag in ("tiny_ingest", FINETUNE, RETRAINING):
        wait_for(lambda dag=dag: api.has_dag(dag), 300, dag)
        api.unpause(dag)
    yield api
    api.__exit__()


def ended(api, dag: str, run: str) -> str:
    def state():
        return next((row["state"] for row in api.runs(dag) if row["dag_run_id"] == run), None)

    return wait_for(lambda: state() in ENDED and state(), 600, f"{dag} {run}")


def all_ended(api, dag: str) -> list[dict]:
    """The runs of a DAG once none is queued or running, and no event waits to become one."""

    def ended_runs():
        # In this order: an event that is not waiting has become a run.
        if api._call("GET", f"/api/v2/dags/{dag}/assets/queuedEvents")["queued_events"]:
            return None
        runs = api.runs(dag)
        return runs if all(run["state"] in ENDED for run in runs) else None

    return wait_for(ended_runs, 600, f"{dag} to come to rest")


def emit(api, asset: str, times: int) -> None:
    """Send the same event several times at once."""
    found = api._call("GET", "/api/v2/assets", params={"name_pattern": asset})["assets"]
    (asset_id,) = [row["id"] for row in found if row["name"] == asset]
    threads = [
        threading.Thread(target=api._call, args=("POST", "/api/v2/assets/events"),
                         kwargs={"json": {"asset_id": asset_id, "extra": {"order": 1}}})
        for _ in range(times)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def fail_a_night(place, project, day: int):
    night = MonitoredInterval(
        monitor="drift", interval=f"2026-11-{day:02d}", verdict="FAIL", model_digest="c" * 64, failing=["exact_match"],
        report=f"memory://report/{day}", report_digest=f"{day:064d}", created=datetime.now(UTC),
    )  # fmt: skip
    tiny = read_application(project / "apps" / "tiny.yaml")
    return orders.evaluate(tiny, Ledger(place.storage, "tiny"), night, datetime.now(UTC))


def trainings(api) -> tuple[list[str], list[str]]:
    """The runs that trained, and the runs that were skipped."""
    trained, skipped = [], []
    for run in all_ended(api, FINETUNE):
        states = {task["task_id"]: task["state"] for task in api.tasks(FINETUNE, run["dag_run_id"])}
        if states["due"] == "skipped":
            assert set(states.values()) == {"skipped"}, states
            assert api.result(FINETUNE, run["dag_run_id"], "due")["reason"].startswith("nothing due: ")
            skipped.append(run["dag_run_id"])
        else:
            assert set(states.values()) == {"success"}, states
            trained.append(run["dag_run_id"])
    return trained, skipped


@pytest.fixture(scope="module")
def first(place, api, project):
    """An order whose event came six times, by way of two schedulers."""
    api.trigger("tiny_ingest", "day", {"day": "2026-11-02"})
    assert ended(api, "tiny_ingest", "day") == "success"
    alive = api._call("GET", "/api/v2/jobs", params={"job_type": "SchedulerJob", "is_alive": "true"})
    assert alive["total_entries"] == 2
    decision = fail_a_night(place, project, 3)
    assert decision.order == 1
    emit(api, "tiny_retraining", 3)
    time.sleep(3)
    emit(api, "tiny_retraining", 3)
    return decision, *trainings(api)


def test_an_event_that_came_six_times_gives_one_training(first, place):
    _, trained, skipped = first
    assert len(trained) == 1
    assert skipped
    outcome = Ledger(place.storage, "tiny").outcome(1)
    assert (outcome.result, outcome.run_id) == ("registered", trained[0])
    assert 0 < outcome.hours < 1


def test_the_training_tells_its_reason_in_the_task_and_in_mlflow(first, api, mlflow_server):
    from mlflow import MlflowClient

    decision, (run,), _ = first
    assert api.result(FINETUNE, run, "due")["reason"] == decision.reason
    training = MlflowClient(mlflow_server).get_run(api.result(FINETUNE, run, "train")["run_id"])
    assert training.data.tags["nightshift.reason"] == decision.reason
    assert training.data.tags["nightshift.order"] == "1"


def test_an_event_that_comes_late_finds_nothing_due(first, api):
    emit(api, "tiny_retraining", 2)
    trained, skipped = trainings(api)
    assert trained == first[1]
    assert len(skipped) > len(first[2])


def test_an_order_whose_event_was_lost_is_taken_up_when_somebody_wakes_finetune(first, place, api, project):
    assert fail_a_night(place, project, 4).order == 2
    before = trainings(api)[0]
    api.trigger(RETRAINING, "wake", {"action": "wake", "reason": "the event was lost"})
    assert ended(api, RETRAINING, "wake") == "success"
    trained, _ = trainings(api)
    assert len(trained) == len(before) + 1
    assert Ledger(place.storage, "tiny").outcome(2).run_id in set(trained) - set(before)
    orders = UPath(place.storage) / "tiny" / "ledger" / "orders"
    assert sorted(path.name for path in orders.iterdir()) == ["0001.json", "0002.json"]
