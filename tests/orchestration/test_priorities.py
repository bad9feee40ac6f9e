"""Who goes first for the slots of a pool, and which pool a task waits in, from the DAGs as Airflow stores them."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

ROOT = Path(__file__).parents[2]
SOURCES = "sources: [{uri: /data/rows.jsonl, columns: {prompt: question, answer: reply}}]\n"


@pytest.fixture(scope="module")
def dags():
    return DagBag(ROOT / "dags").dags


@pytest.fixture
def priorities():
    """A function that returns what the scheduler sorts the tasks of a DAG by, from the DAG as it is stored."""

    def of(dag) -> dict[str, int]:
        stored = DagSerialization.from_json(DagSerialization.to_json(dag))
        tasks = {task.task_id: task for task in stored.tasks}
        return {name: task.weight_rule.get_weight(SimpleNamespace(task=task)) for name, task in tasks.items()}

    return of


def test_what_is_begun_is_finished_before_anything_new_is_begun(dags, priorities):
    for dag in dags.values():
        weights = priorities(dag)
        later = [(task.task_id, after) for task in dag.tasks for after in task.downstream_task_ids]
        assert [(before, after) for before, after in later if weights[after] < weights[before]] == [], dag.dag_id


def test_a_slot_goes_to_the_evaluation_of_one_application_before_the_training_of_another(dags, priorities):
    weights = priorities(dags["banking_assistant_finetune"])
    assert weights["train"] < weights["evaluate"] < weights["reference"]


def test_no_task_of_a_second_waits_for_a_job(dags):
    pools = {
        task.task_id: task.pool
        for dag in dags.values()
        for task in dag.tasks
        if not dag.dag_id.startswith("nightshift_")
    }
    deciding = {
        "due",
        "close",
        "remove_old",
        "step_in",
        "retraining",
        "changed",
        "challenge",
        "release",
        "promote",
        "rollback",
        "respond",
        "watch",
        *("today", "start", "halve_2", "halve_3", "best", "winner"),
    }
    light = {"accept", "record", "announce", "wake", "verdict", "approve", "arrival", "examples", *deciding}
    assert {name for name, pool in pools.items() if pool == "nightshift_light"} == light
    trained = {"train", "evaluate", "reference", "shadow", "replay", "rung_1", "rung_2", "rung_3", "search_result"}
    assert {name for name, pool in pools.items() if pool == "nightshift_training"} == trained
    assert {pool for name, pool in pools.items() if name not in light | trained} == {"nightshift_jobs"}


def test_an_application_may_have_pools_and_a_priority_of_its_own(project, priorities):
    own = "pools: {jobs: returns_jobs, training: returns_gpus}\npriority: 5\n"
    (project / "apps" / "returns.yaml").write_text(SOURCES + own)
    (project / "apps" / "other.yaml").write_text(SOURCES)
    dags = DagBag(ROOT / "dags" / "finetune.py").dags
    mine, other = dags["returns_finetune"], dags["other_finetune"]
    assert {task.pool for task in mine.tasks} == {"returns_jobs", "returns_gpus", "nightshift_light"}
    assert priorities(mine) == {name: 5 * weight for name, weight in priorities(other).items()}
