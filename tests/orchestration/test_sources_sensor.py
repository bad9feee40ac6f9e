"""Late data: ingest begins when each source has something for the interval, or when the time for it to arrive is over."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowRescheduleException

DAGS = Path(__file__).parents[2] / "dags"
NIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
ENDED = NIGHT + timedelta(days=1)
HOURS_SINCE = (datetime.now(UTC) - ENDED) / timedelta(hours=1)
CHATS = "{{name: chats, uri: '{folder}/{{start:%Y-%m-%d}}/*.jsonl', columns: {{prompt: question, answer: reply}}}}"
TICKETS = """{{name: tickets, connection: desk, columns: {{prompt: body, answer: reply}},
  query: 'SELECT body, reply FROM tickets WHERE at >= :start AND at < :end ORDER BY at'}}"""
FILES = "- " + CHATS
BOTH = f"- {CHATS}\n- {TICKETS}"


@pytest.fixture
def arrival(tmp_path, monkeypatch):
    """A function that has the task `arrival` of an application look, as the worker of a run does; True: ingest begins."""

    def look(sources=FILES, more="", *, hours=1.0, kind="ingest", run_type="scheduled", night=NIGHT):
        (tmp_path / "apps").mkdir(exist_ok=True)
        clock = f"{{{{arrival_hours: {HOURS_SINCE + hours}, grace_hours: 99}}}}"
        lines = f"start: 2026-01-01\nclock: {clock}\n{more}\nsources:\n{sources}\n"
        (tmp_path / "apps" / "shop.yaml").write_text(lines.format(folder=tmp_path))
        monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
        monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", (tmp_path / "storage").as_uri())
        dag = DagBag(DAGS / f"{kind}.py").dags[f"shop_{kind}"]
        task = dag.get_task("arrival")
        ti = SimpleNamespace(
            dag_id=dag.dag_id, run_id="r", task_id="arrival", map_index=-1, try_number=1,
            get_first_reschedule_date=lambda _: None,
        )  # fmt: skip
        context = {
            "ti": ti, "dag": dag, "dag_run": SimpleNamespace(conf={}, run_type=run_type), "params": {"day": None},
            "data_interval_start": night, "data_interval_end": night + timedelta(days=1),
        }  # fmt: skip
        task.interval = task.render_template(dict(task.interval), context)
        try:
            task.execute(context)
        except AirflowRescheduleException:
            return False
        return True

    return look


def deliver(tmp_path, night=NIGHT):
    folder = tmp_path / f"{night:%Y-%m-%d}"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"question": "Where is it?", "reply": "On its way."}\n')


def test_ingest_waits_for_a_file_that_is_late_and_says_what_for(arrival, tmp_path, capsys):
    assert not arrival()
    said = capsys.readouterr().out
    assert f"there is no file {tmp_path}/{NIGHT:%Y-%m-%d}/*.jsonl" in said
    assert "clock.arrival_hours" in said
    deliver(tmp_path)
    assert arrival()


def test_when_the_time_is_over_ingest_begins_and_has_the_last_word(arrival, capsys):
    assert arrival(hours=-HOURS_SINCE / 2)
    assert "no data arrived: source 'chats': there is no file" in capsys.readouterr().out


def test_a_catch_up_over_nights_without_data_waits_for_none_of_them(arrival):
    assert not arrival(run_type="backfill")
    assert arrival(run_type="backfill", night=NIGHT - timedelta(days=3))


def test_a_person_who_starts_a_run_is_told_at_once(arrival, capsys):
    assert arrival(run_type="manual")
    assert "no data arrived" in capsys.readouterr().out


def test_a_query_is_waited_for_until_it_finds_a_row_of_the_interval(arrival, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AIRFLOW_CONN_DESK", f"sqlite:///{tmp_path}/desk.db")
    deliver(tmp_path)
    with sqlite3.connect(tmp_path / "desk.db") as desk:
        desk.execute("CREATE TABLE tickets (at TEXT, body TEXT, reply TEXT)")
        desk.execute("INSERT INTO tickets VALUES (?, 'Hello', 'Hi')", [f"{ENDED:%Y-%m-%d} 08:00:00"])
        desk.commit()
        assert not arrival(BOTH)
        said = capsys.readouterr().out
        assert "source 'tickets': its query finds no row" in said
        assert "chats" not in said
        desk.execute("INSERT INTO tickets VALUES (?, 'Hello', 'Hi')", [f"{NIGHT:%Y-%m-%d} 08:00:00"])
        desk.commit()
    assert arrival(BOTH)


@pytest.mark.parametrize(
    ("sources", "more"),
    [
        (BOTH, ""),  # nobody added the connection
        ("- {{uri: 's3://drops::x/rows.jsonl', columns: {{prompt: question}}}}", ""),
        (FILES, "compute: cluster"),  # its pods see other files than this worker
    ],
)
def test_where_this_worker_cannot_look_nothing_is_waited_for(arrival, tmp_path, sources, more):
    (tmp_path / "compute").mkdir()
    (tmp_path / "compute" / "cluster.yaml").write_text("backend: kubernetes\nimage: registry/nightshift:1\n")
    if sources == BOTH:
        deliver(tmp_path)
    assert arrival(sources, more)


def test_a_source_that_cannot_be_looked_at_from_here_ends_the_wait_for_no_other(arrival, tmp_path, caplog):
    assert not arrival(BOTH)  # nobody added the connection of the query; the file is late
    deliver(tmp_path)
    assert arrival(BOTH)
    assert "not waiting for source 'tickets'" in caplog.text


def test_storage_that_is_down_is_waited_for(arrival, tmp_path, monkeypatch, capsys):
    import errno

    from fsspec.implementations.local import LocalFileSystem

    def down(self, path, **_):
        raise OSError(errno.ENETUNREACH, "network is unreachable")

    with monkeypatch.context() as patch:
        patch.setattr(LocalFileSystem, "glob", down)
        assert not arrival()
    assert "cannot be listed" in capsys.readouterr().out
    deliver(tmp_path)
    assert arrival()


def test_hours_whose_data_is_late_keep_no_later_hour_from_coming(tmp_path, monkeypatch):
    (tmp_path / "apps").mkdir()
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
    at_once = {}
    for name, schedule in (("daily", "@daily"), ("hourly", "@hourly"), ("often", "*/5 * * * *")):
        lines = f"schedule: '{schedule}'\nsources:\n{FILES.format(folder=tmp_path)}\n".replace(
            "%Y-%m-%d", "%Y-%m-%dT%H%M%z"
        )
        (tmp_path / "apps" / f"{name}.yaml").write_text(lines)
        at_once[name] = DagBag(DAGS / "ingest.py").dags[f"{name}_ingest"].max_active_runs
    assert at_once == {"daily": 2, "hourly": 4, "often": 18}


def test_production_traffic_is_waited_for_as_well(arrival, tmp_path):
    traffic = f"traffic: {{{{sources: [{CHATS}]}}}}".replace(", answer: reply", "").replace("/*.jsonl", "/asked.jsonl")
    assert not arrival(more=traffic, kind="batch_inference")
    deliver(tmp_path)
    (tmp_path / f"{NIGHT:%Y-%m-%d}" / "asked.jsonl").write_text('{"question": "Where is it?"}\n')
    assert arrival(more=traffic, kind="batch_inference")


def test_the_look_is_left_to_the_workers_that_run_ingest(tmp_path, monkeypatch):
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps" / "shop.yaml").write_text(f"compute: far\nsources:\n{FILES.format(folder=tmp_path)}\n")
    (tmp_path / "compute").mkdir()
    (tmp_path / "compute" / "far.yaml").write_text("backend: local\nqueue: far\n")
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
    dag = DagBag(DAGS / "ingest.py").dags["shop_ingest"]
    assert [dag.get_task(name).queue for name in ("arrival", "ingest")] == ["far", "far"]
    assert dag.get_task("validate").upstream_task_ids == {"ingest"}
