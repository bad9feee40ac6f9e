"""The DAG `batch_inference`: its tasks follow from who answers, and how many share the work."""

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.utils.dag_version_inflation_checker import check_dag_file_stability

from nightshift.settings.project import PACKAGE

FILE = PACKAGE.parents[1] / "dags" / "batch_inference.py"
APPLICATION = """\
description: Answers questions about returns.
owner: returns
sources:
  - uri: /data/returns/{start:%Y-%m-%d}.jsonl
    columns: {prompt: question, answer: reply}
"""
SERVED = """\
traffic:
  sources:
    - uri: /data/served/{start:%Y-%m-%d}.jsonl
      columns: {prompt: question, response: said}
"""


@pytest.fixture
def dag_of(project):
    """A function that returns the DAG of an application with more lines in its file."""

    def dag(more=""):
        (project / "apps" / "returns_helper.yaml").write_text(APPLICATION + more)
        bag = DagBag(FILE)
        assert bag.import_errors == {}
        return bag.dags["returns_helper_batch_inference"]

    return dag


def test_prompts_are_answered_then_scored_then_announced(dag_of):
    dag = dag_of()
    assert [task.task_id for task in dag.topological_sort()] == ["examples", "generate", "score", "record"]
    given = dag.get_task("score").arguments
    assert (str(given["prompts"]), str(given["model_digest"])) == (
        "<examples of examples>",
        "<model_digest of generate>",
    )
    (asset,) = dag.get_task("record").outlets
    assert asset.name == "returns_helper_interactions"
    assert dag.timetable.can_be_scheduled
    assert not check_dag_file_stability(str(FILE)).warnings


def test_shards_are_tasks_of_their_own_that_agree_on_a_champion(dag_of):
    dag = dag_of("inference: {shards: 3}\n")
    assert dag.get_task("score").upstream_task_ids == {"examples", "generate_0", "generate_1", "generate_2"}
    arguments = [dag.get_task(f"generate_{shard}").arguments for shard in range(3)]
    assert [(one["shard"], one["shards"], str(one["run"])) for one in arguments] == [
        (n, 3, "<run_id>") for n in range(3)
    ]


def test_what_was_served_elsewhere_is_only_scored(dag_of):
    dag = dag_of(SERVED)
    assert [task.task_id for task in dag.topological_sort()] == ["arrival", "ingest", "score", "record"]
    assert dag.get_task("ingest").arguments["part"] == "traffic"
    assert set(dag.get_task("score").arguments) == {"prompts", "digest"}


def test_feedback_is_read_once_all_versions_have_answered_and_before_who_waits_for_the_night_is_told(dag_of):
    asked = """\
traffic:
  sources:
    - uri: /data/asked/{start:%Y-%m-%d}.jsonl
      columns: {prompt: question, id: message}
"""
    feedback = """\
feedback:
  sources:
    - uri: said/{start:%Y-%m-%d}.jsonl
      columns: {id: message, thumb: vote}
"""
    dag = dag_of(f"split: {{}}\n{asked}{feedback}")
    assert dag.get_task("feedback").upstream_task_ids == {"score", "challenger_score"}
    assert "feedback" in dag.get_task("record").upstream_task_ids
    assert dag.get_task("feedback").trigger_rule == "all_done"


def test_prompts_of_traffic_sources_are_answered_by_the_champion(dag_of):
    dag = dag_of(SERVED.replace(", response: said", ""))
    assert dag.get_task("ingest").arguments["part"] == "traffic"
    assert dag.has_task("generate")


def test_a_split_has_a_second_version_answer_its_rows_and_then_decides(dag_of):
    dag = dag_of("split: {}\n")
    upstream = {task.task_id: task.upstream_task_ids for task in dag.tasks}
    assert upstream == {
        "examples": set(),
        "assign": {"examples"},
        "generate": {"examples", "assign"},
        "score": {"examples", "generate"},
        "challenger_generate": {"assign"},
        "challenger_score": {"challenger_generate"},
        "arms": {"score", "challenger_score"},
        "ramp": {"arms", "assign"},
        "record": {"score", "challenger_score"},
    }
    given = dag.get_task("challenger_score").arguments
    assert str(given["arm"]) == "<challenger_rows of assign>"
    assert str(given["responses"]) == "<responses of challenger_generate>"
    (woken,) = dag.get_task("ramp").outlets
    assert woken.name == "returns_helper_candidate"
    assert not check_dag_file_stability(str(FILE)).warnings
