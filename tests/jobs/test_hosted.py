"""An application whose model is at an endpoint: monitored, evaluated, gated and replaced as others are, and never trained."""

import csv
from datetime import UTC, datetime

import pytest
from test_loop import SAMPLES, Loop
from upath import UPath

from nightshift.inference import batch_client
from nightshift.jobs import bias, generate, shadow
from nightshift.ledger.spending import summary_now
from nightshift.ledger.store import Ledger
from nightshift.settings.application import Application
from nightshift.settings.endpoint import Batch
from nightshift.storage.manifest import require_manifest
from nightshift.verdict import Verdict

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
KNOWN_DAYS = ("2026-11-02", "2026-11-03", "2026-11-04")


def intents():
    """The intents that the hosted model knows: those of the quiet days."""
    found = {}
    for day in KNOWN_DAYS:
        with (SAMPLES / f"{day}.csv").open(encoding="utf-8") as file:
            found |= {row["text"]: row["intent"] for row in csv.DictReader(file)}
    return found


@pytest.fixture
def hosted(storage, progress, tiny_models, mlflow_server, tmp_path, monkeypatch, serve):  # noqa: PLR0917
    """The loop of an application at a server that knows the intents of the quiet days."""
    (tmp_path / "apps").mkdir()
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", storage)
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", mlflow_server)
    known = intents()

    def reply(body):
        if body["messages"][-1]["content"].startswith("I have"):
            return 400, '{"error": {"message": "filtered by the content policy"}}'
        return 200, known.get(body["messages"][-1]["content"], "I cannot help you with this, please call us.")

    server = serve(reply)
    app = Application(
        name="hosted",
        base_model=tiny_models.random,
        start="2026-11-02",
        sources=[
            {
                "uri": f"{SAMPLES}/{{start:%Y-%m-%d}}.csv",
                "columns": {"prompt": "text", "answer": "intent", "id": "message_id", "metadata": ["written_at"]},
            }
        ],
        prompt={
            "file": {
                "template": "<message role='system'>Now: {{$written_at}}</message><message role='user'>hi</message>"
                "<message role='assistant'>hello</message>{{$prompt}}",
                "input_variables": [{"name": "written_at", "default": "never"}],
            }
        },
        ingest={"splits": {"train": 0.5, "traffic": 0.35, "held_out": 0.15}},
        evaluation={"max_examples": 120},
        inference={
            "max_new_tokens": 20,
            "rows_per_part": 100,
            "endpoint": {"url": server.url, "model": "hosted-1", "price": {"input": 1, "output": 4}},
        },
        gate={"min_score": 0.5},
        retraining={"nights": 1, "of_nights": 1, "min_new_examples": 0},
        bias={"counterfactual_pairs": 5, "min_group": 5, "full_weekday": None},
    )
    loop = Loop(app, storage, progress)
    loop.server = server
    return loop


def asking(application, **endpoint):
    """The application with other settings of its endpoint."""
    other = application.inference.endpoint.model_copy(update=endpoint)
    return application.model_copy(update={"inference": application.inference.model_copy(update={"endpoint": other})})


def test_a_hosted_model_is_judged_released_watched_and_replaced(hosted, monkeypatch):
    monkeypatch.setattr(batch_client, "POLL_SECONDS", 0.01)
    for day in KNOWN_DAYS[:2]:
        hosted.ingested(day)
    _, _, first = hosted.finetuned("by hand", wanted=True)
    assert (first.version, first.verdict) == ("1", Verdict.PASS)
    assert hosted.released()["version"] == "1"

    prompts = hosted.ingested(KNOWN_DAYS[2])
    said = hosted.run(generate, **prompts)
    assert (said.model, said.cost > 0) == ("1", True)
    assert "the endpoint refused" in said.reason
    paid = len(hosted.server.requests)
    # The evaluation and the night were asked behind the example, each row with what its metadata says.
    asked = [[(one["role"], one["content"]) for one in body["messages"]] for _, _, body in hosted.server.requests]
    assert all(messages[1:3] == [("user", "hi"), ("assistant", "hello")] and len(messages) == 4 for messages in asked)
    assert {messages[0][1][:15] for messages in asked} == {f"Now: {day}" for day in KNOWN_DAYS}
    assert hosted.run(generate, **prompts) == said
    assert len(hosted.server.requests) == paid
    quiet = hosted.answered(KNOWN_DAYS[2])
    facts = require_manifest(UPath(quiet.interactions)).facts
    assert facts["cost"] == pytest.approx(said.cost)
    assert facts["engines"] == [f"endpoint on {hosted.server.url}"]
    judged, decision = hosted.decided()
    assert judged.verdict in {Verdict.PASS, Verdict.WARN}

    hosted.application = asking(hosted.application, batch=Batch(discount=0.5))
    assert hosted.answered("2026-11-09").rows > 100 * (len(hosted.server.batches) - 1) > 0
    hosted.application = asking(hosted.application, batch=None)
    judged, decision = hosted.decided()
    assert judged.verdict is Verdict.FAIL
    assert (decision.order, decision.code) == (None, "hosted")
    assert f"the model is at {hosted.server.url}, where nothing is trained" in decision.reason
    reported = hosted.run(bias)
    assert "stereotypes and questions were not asked" in str(reported.nights)
    asked = summary_now(Ledger(hosted.storage, hosted.application.name), datetime.now(UTC)).asked
    assert {name.partition("/")[0] for name, one in asked.items() if one.cost > 0} == {"answers", "probes"}

    hosted.application = asking(hosted.application, model="hosted-2")
    # The champion goes on answering as it is until the other is released.
    assert hosted.run(generate, **prompts).model == "1"
    _, _, second = hosted.finetuned("another model", wanted=True)
    assert second.version == "2"
    assert any("to the champion" in reason for reason in second.reasons)
    models = {"model_digest": hosted.digest_of("2"), "champion_digest": hosted.digest_of("1")}
    assert hosted.run(shadow, **models).verdict is Verdict.PASS
    assert hosted.released()["version"] == "2"
    again = hosted.run(generate, **prompts)
    assert again.model == "2"
    assert hosted.server.requests[-1][2]["model"] == "hosted-2"
    assert len(hosted.server.requests) > paid
