"""The job `score` on what others answered, and beside a judge."""

import json
from datetime import UTC, datetime

import pytest
from answered_intervals import interactions_of
from upath import UPath

from nightshift.errors import BadInput
from nightshift.jobs import ingest, score
from nightshift.settings.application import Application
from nightshift.settings.interval import Interval
from nightshift.storage.manifest import require_manifest

pytestmark = pytest.mark.slow


def test_what_a_serving_system_answered_is_only_scored(storage, progress, tmp_path, mlflow_server, tiny_models):
    rows = [
        "text,said,page,shop",
        *(f'"{text}",We sent it.,We sent the card.,north' for text in ("a b c", "a b c", "d")),
    ]
    (tmp_path / "night.csv").write_text("\n".join(rows) + "\n")
    served = {
        "uri": str(tmp_path / "night.csv"),
        "columns": {"prompt": "text", "response": "said", "context": "page", "metadata": ["shop"]},
    }
    examples = {"uri": "none.csv", "columns": {"prompt": "text"}}
    application = Application(
        name="served_elsewhere", base_model=tiny_models.random, sources=[examples], traffic={"sources": [served]}
    )
    interval = Interval(start=datetime(2026, 11, 2, tzinfo=UTC), end=datetime(2026, 11, 3, tzinfo=UTC))
    common = {"application": application, "storage": storage}
    taken = ingest.run(ingest.Spec(**common, interval=interval, part="traffic"), progress)
    assert taken.examples.endswith("/traffic/2026-11-02")
    assert taken.kept == 3
    scored = score.run(score.Spec(**common, prompts=taken.examples, digest=taken.digest), progress)
    table = interactions_of(scored, tmp_path)
    assert table["response"].to_pylist() == ["We sent it."] * 3
    assert set(table["model"].to_pylist()) == {""}
    assert table["finish_reason"].null_count == table["latency_ms"].null_count == 3
    assert table["groundedness"].null_count == 0
    assert dict(table["metadata"].to_pylist()[0]) == {"shop": "north"}

    mixed = application.model_copy(update={"sources": application.traffic.sources})
    with pytest.raises(BadInput, match=r"source 'source': `columns\.response` is for production traffic"):
        ingest.run(ingest.Spec(application=mixed, storage=storage, interval=interval), progress)


def test_prompts_that_nobody_answered_are_not_scored_as_if(night, progress, mlflow_server):
    with pytest.raises(BadInput, match="were not served elsewhere; run generate first"):
        score.run(score.Spec(**night), progress)


def test_how_far_the_judge_agrees_with_what_is_known_stands_beside_its_scores(  # noqa: PLR0917
    storage, progress, tmp_path, mlflow_server, tiny_models, serve
):
    said = ["card arrival" if number % 3 else "lost card" for number in range(30)]
    rows = [f"where is card {number},{text},card arrival" for number, text in enumerate(said)]
    (tmp_path / "night.csv").write_text("\n".join(["text,said,known", *rows]) + "\n")
    columns = {"prompt": "text", "response": "said", "answer": "known"}
    lenient = serve(lambda body: (200, '{"score": 0.9}' if "card arrival" in str(body) else '{"score": 0.1}'))
    application = Application(
        name="with_a_judge",
        base_model=tiny_models.random,
        sources=[{"uri": "none.csv", "columns": {"prompt": "text"}}],
        traffic={"sources": [{"uri": str(tmp_path / "night.csv"), "columns": columns}]},
        judge={"url": lenient.url, "model": "judge-1"},
    )
    interval = Interval(start=datetime(2026, 11, 2, tzinfo=UTC), end=datetime(2026, 11, 3, tzinfo=UTC))
    common = {"application": application, "storage": storage}
    taken = ingest.run(ingest.Spec(**common, interval=interval, part="traffic"), progress)
    scored = score.run(score.Spec(**common, prompts=taken.examples, digest=taken.digest), progress)
    facts = require_manifest(UPath(scored.interactions), scored.digest).facts
    # It gives 0.9 to everything, since the reference that it is shown says "card arrival" too.
    assert facts["judge"] == {"scored": 30, "agreement_rows": 30, "agreement_kappa": 0.0, "agreement_auc": 0.5}


def test_the_judge_is_shown_the_conversations_of_a_night_with_their_system_messages(  # noqa: PLR0917
    storage, progress, tmp_path, mlflow_store, wordless_model, serve
):
    turns = [
        ("system", "Sprich wie ein Pirat."),
        ("user", "Wo ist 我的卡?"),
        ("assistant", "Welche?"),
        ("user", "Die blaue."),
    ]
    messages = [{"role": role, "content": text} for role, text in turns]
    lines = [json.dumps({"messages": messages, "said": "Arr!"}), json.dumps({"messages": messages[1:2], "said": "Da."})]
    (tmp_path / "night.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    server = serve(lambda _body: (200, '{"score": 1}'))
    application = Application(
        name="conversations",
        base_model=str(wordless_model),
        sources=[{"uri": "none.csv", "columns": {"prompt": "text"}}],
        prompt={"system": "Be brief."},
        traffic={
            "sources": [{"uri": str(tmp_path / "night.jsonl"), "columns": {"messages": "messages", "response": "said"}}]
        },
        judge={"url": server.url, "model": "judge-1", "requests_at_once": 1},
    )
    interval = Interval(start=datetime(2026, 11, 2, tzinfo=UTC), end=datetime(2026, 11, 3, tzinfo=UTC))
    common = {"application": application, "storage": storage}
    taken = ingest.run(ingest.Spec(**common, interval=interval, part="traffic"), progress)
    scored = score.run(score.Spec(**common, prompts=taken.examples, digest=taken.digest), progress)
    assert scored.means["judge"] == 1.0
    first, second = (json.loads(body["messages"][1]["content"]) for _, _, body in server.requests)
    assert first == {
        "message": "Die blaue.", "response": "Arr!", "instructions": turns[0][1], "earlier": messages[1:3]
    }  # fmt: skip
    assert second == {"message": "Wo ist 我的卡?", "response": "Da.", "instructions": "Be brief."}


def test_a_judge_that_refuses_costs_its_scores_and_the_result_says_what_it_said(  # noqa: PLR0917
    storage, progress, tmp_path, mlflow_store, wordless_model, serve
):
    (tmp_path / "night.csv").write_text("text,said\nwhere is it,here\n")
    server = serve(lambda _body: (400, '{"error": {"message": "The model `judge-1` does not exist"}}'))
    application = Application(
        name="refused",
        base_model=str(wordless_model),
        sources=[{"uri": "none.csv", "columns": {"prompt": "text"}}],
        traffic={"sources": [{"uri": str(tmp_path / "night.csv"), "columns": {"prompt": "text", "response": "said"}}]},
        judge={"url": server.url, "model": "judge-1"},
    )
    interval = Interval(start=datetime(2026, 11, 2, tzinfo=UTC), end=datetime(2026, 11, 3, tzinfo=UTC))
    common = {"application": application, "storage": storage}
    taken = ingest.run(ingest.Spec(**common, interval=interval, part="traffic"), progress)
    scored = score.run(score.Spec(**common, prompts=taken.examples, digest=taken.digest), progress)
    assert "the judge failed on 1 rows, at last with status 400: " in scored.reason
    assert "The model `judge-1` does not exist" in scored.reason
