"""One DAG makes an interval's examples; the other waits for their manifest and never reads the source itself."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException, AirflowSkipException
from upath import UPath

from nightshift.settings.project import PACKAGE
from nightshift.storage.partition import partition_of, publish

DAGS = PACKAGE.parents[1] / "dags"
APPLICATION = """\
description: Answers questions about returns.
owner: returns
start: 2026-11-01
sources:
  - connection: shop
    query: SELECT question, reply FROM returns WHERE at >= :start AND at < :end ORDER BY id
    columns: {prompt: question, answer: reply}
"""
TRAFFIC = """\
traffic:
  sources:
    - {uri: "/data/asked/{start:%Y-%m-%d}.jsonl", columns: {prompt: question}}
"""
DAY = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture
def dags_of(tmp_path, monkeypatch):
    """A function that returns the DAGs that ingest or answer, of an application with more lines in its file."""

    def dags(more=""):
        (tmp_path / "apps").mkdir(exist_ok=True)
        (tmp_path / "apps" / "shop.yaml").write_text(APPLICATION + more)
        monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
        monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", (tmp_path / "storage").as_uri())
        return [DagBag(DAGS / f"{kind}.py").dags[f"shop_{kind}"] for kind in ("ingest", "batch_inference")]

    return dags


@pytest.fixture
def waiting(dags_of, tmp_path):
    """The task that waits; and a function that has it look, as the worker of a run does."""
    dag = dags_of()[1]
    task = dag.get_task("examples")
    template = dict(task.interval)

    def look(*, day=None, ingest_ended=False, waits_since=None):
        ti = SimpleNamespace(
            dag_id=dag.dag_id, run_id="r", task_id="examples", map_index=-1, try_number=1,
            get_first_reschedule_date=lambda _: waits_since,
            get_dr_count=lambda dag_id, logical_dates, states: int(ingest_ended and dag_id == "shop_ingest"),
        )  # fmt: skip
        context = {
            "ti": ti, "dag": dag, "dag_run": SimpleNamespace(conf={}), "params": {"day": day}, "logical_date": DAY,
            "data_interval_start": DAY, "data_interval_end": DAY.replace(day=3),
        }  # fmt: skip
        task.interval = task.render_template(template, context)
        return task.execute(context)

    return look


def examples(tmp_path, day="2026-11-02"):
    """Publish examples as ingest does."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "examples.parquet").write_bytes(b"rows")
    partition = partition_of((tmp_path / "storage").as_uri(), "shop", "examples", day)
    return partition, publish(partition, folder, kind="examples", application="shop", inputs={"day": day})


def parts_written(dag):
    return [task.arguments.get("part", "examples") for task in dag.tasks if getattr(task, "job", "") == "ingest"]


def test_no_two_dags_write_one_kind_of_partition(dags_of):
    for more, expected in (("", [["examples"], []]), (TRAFFIC, [["examples"], ["traffic"]])):
        assert [parts_written(dag) for dag in dags_of(more)] == expected


def test_a_night_takes_the_examples_that_ingest_published(waiting, tmp_path):
    with pytest.raises(AirflowRescheduleException):
        waiting()
    partition, manifest = examples(tmp_path)
    assert waiting() == {"examples": str(partition), "digest": manifest.digest}
    assert waiting(ingest_ended=True) == waiting(day="2026-11-02") == waiting()


def test_the_night_ends_as_skipped_when_ingest_ended_without_examples(waiting):
    with pytest.raises(AirflowSkipException, match="shop_ingest ended without examples of 2026-11-02"):
        waiting(ingest_ended=True)


def test_the_night_ends_as_skipped_when_nobody_ingests_it(waiting):
    with pytest.raises(
        AirflowSkipException, match=r"no examples in 6 hours \(clock.arrival_hours plus wait_hours\).* start one"
    ):
        waiting(waits_since=datetime(2026, 11, 2, tzinfo=UTC))


def test_what_cannot_come_is_not_waited_for(waiting, tmp_path):
    with pytest.raises(AirflowFailException, match="2026-10-05"):
        waiting(day="2026-10-05")
    partition, _ = examples(tmp_path)
    (UPath(partition) / "manifest.json").write_text("{")
    with pytest.raises(AirflowFailException, match="not a manifest"):
        waiting()
