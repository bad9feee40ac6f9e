"""The job `feedback` on MLflow traces: what people said counts, late or changed; what machines said does not."""

from datetime import UTC, datetime, timedelta

import mlflow
import pyarrow.parquet as pq
import pytest
from mlflow.entities import AssessmentSource
from pydantic import ValidationError
from upath import UPath

from nightshift.data.feedback import FEEDBACK, WAITING
from nightshift.errors import BadInput
from nightshift.jobs.feedback import Spec, run
from nightshift.settings.application import Application
from nightshift.settings.feedback import FeedbackSource
from nightshift.settings.interval import Interval
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import fetch
from nightshift.verdict import Verdict

KIM, JO = (AssessmentSource("HUMAN", name) for name in ("kim@example.org", "jo@example.org"))
JUDGE = AssessmentSource("LLM_JUDGE", "judge")
COLUMNS = {
    "id": "client_request_id", "subject": "by", "timestamp": "at", "thumb": "assessments.quality.helpful",
    "answer": "assessments.expected_response", "metadata": ["rationale", "tags.app.channel", "assessments.polite"],
}  # fmt: skip


def trace(experiment, request):
    with mlflow.start_span("chat", trace_destination=experiment) as span:
        mlflow.update_current_trace(client_request_id=request, tags={"app.channel": "web"})
    return span.trace_id


@pytest.fixture
def experiment(mlflow_store, monkeypatch):
    from mlflow.entities.trace_location import MlflowExperimentLocation

    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    name = f"chats {datetime.now(UTC).timestamp()}"
    return name, MlflowExperimentLocation(mlflow_store.create_experiment(name))


@pytest.fixture
def spec(storage, wordless_model, experiment, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_ID_KEY", "k" * 32)
    now = datetime.now(UTC)
    application = Application(
        name="bank", base_model=str(wordless_model), sources=[{"uri": "rows.jsonl", "columns": {"prompt": "text"}}],
        traffic={"sources": [{"uri": "asked.jsonl", "columns": {"prompt": "text", "id": "message"}}]},
        feedback={"sources": [{"experiment": experiment[0], "columns": COLUMNS}]},
    )  # fmt: skip
    interval = Interval(start=now - timedelta(hours=1), end=now + timedelta(hours=1))
    return Spec(application=application, storage=storage, interval=interval)


def rows_of(result, tmp_path, name=WAITING):
    partition = UPath(result.feedback)
    return pq.read_table(
        fetch(partition, require_manifest(partition, result.digest), name, tmp_path / "got")
    ).to_pylist()


def test_a_person_says_several_things_of_a_trace_in_one_row_and_judges_of_machines_say_nothing(
    spec, experiment, progress, tmp_path
):
    asked = {name: trace(experiment[1], name) for name in ("a", "b", "c", "d")}
    mlflow.log_feedback(trace_id=asked["a"], name="quality.helpful", value=False, source=KIM, rationale="wrong card")
    mlflow.log_expectation(trace_id=asked["a"], name="expected_response", value="The blue one.", source=KIM)
    mlflow.log_feedback(trace_id=asked["a"], name="quality.helpful", value=True, source=JO)
    mlflow.log_feedback(trace_id=asked["b"], name="quality.helpful", value=True, source=JUDGE)
    mlflow.log_feedback(trace_id=asked["a"], name="polite", value="very", source=KIM)
    mlflow.log_feedback(trace_id=asked["c"], name="polite", value="very", source=KIM)
    before = mlflow.log_feedback(trace_id=asked["d"], name="quality.helpful", value=True, source=KIM)
    mlflow.override_feedback(
        trace_id=asked["d"], assessment_id=before.assessment_id, value=False, source=KIM, rationale="read it again"
    )

    result = run(spec, progress)

    assert (result.rows_in, result.waiting, result.quarantined) == (4, 3, 1)
    said = {(row["id"], row["up"]): row for row in rows_of(result, tmp_path)}
    assert said.keys() == {("a", False), ("a", True), ("d", False)}
    assert said["a", False]["answer"] == "The blue one."
    metadata = {"rationale": "wrong card", "tags.app.channel": "web", "assessments.polite": "very"}
    assert dict(said["a", False]["metadata"]) == metadata
    assert all("example.org" not in row["subject"] for row in said.values())
    assert rows_of(result, tmp_path, FEEDBACK) == []
    assert run(spec, progress).digest == result.digest, "what is read again is the same"


def test_an_experiment_that_nobody_assessed_is_no_data_and_one_that_is_not_there_is_named(
    spec, experiment, progress, storage
):
    trace(experiment[1], "a")
    assert run(spec, progress).verdict is Verdict.INSUFFICIENT_DATA

    source = spec.application.feedback.sources[0].model_copy(update={"experiment": "chatz"})
    feedback = spec.application.feedback.model_copy(update={"sources": [source]})
    with pytest.raises(BadInput, match="no experiment 'chatz'"):
        run(
            spec.model_copy(update={"application": spec.application.model_copy(update={"feedback": feedback})}),
            progress,
        )


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ({"experiment": "chats", "uri": "x.jsonl", "columns": COLUMNS}, "leave `uri` out"),
        ({"experiment": "chats", "columns": {"id": "trace_id", "thumb": "quality.helpful"}}, "assessments.<name>"),
        (
            {"experiment": "chats", "columns": COLUMNS | {"rejected": "assessments.worse"}},
            "`rejected` is no assessment",
        ),
    ],
)
def test_a_source_of_traces_that_could_read_nothing_is_refused(source, error):
    with pytest.raises(ValidationError, match=error):
        FeedbackSource(**source)
