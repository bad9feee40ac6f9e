"""The DAG of an index: when it runs, and whom it tells."""

from pathlib import Path

from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

FILE = Path(__file__).parents[2] / "dags" / "index.py"
ROWS = "sources: [{uri: /data/rows.jsonl, columns: {prompt: question, answer: reply}}]\n"


def test_documents_are_indexed_every_day_and_those_who_wait_for_an_index_are_told(project):
    (project / "apps" / "returns.yaml").write_text(ROWS)
    (project / "apps" / "manuals.yaml").write_text(f"{ROWS}retrieval: {{documents: [{{uri: manuals/*.md}}]}}\n")
    dags = {name: DagSerialization.from_json(DagSerialization.to_json(dag)) for name, dag in DagBag(FILE).dags.items()}
    assert dags["returns_index"].timetable.summary == "None"
    by_clock = dags["manuals_index"]
    assert by_clock.timetable.summary == "0 0 * * *"
    assert by_clock.get_task("index").downstream_task_ids == {"announce"}
    assert [asset.name for asset in by_clock.get_task("announce").outlets] == ["manuals_indexes"]
