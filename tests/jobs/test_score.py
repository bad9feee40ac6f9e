"""The job `score` on what others answered, and beside a judge."""

from datetime import UTC, datetime

import pytest
from answered_nights import interactions_of
from upath import UPath

from nightshift.errors import BadInput
from nightshift.jobs import ingest, score
from nightshift.settings.application import Application, Interval
from nightshift.storage.partition import require_manifest

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
