"""A search over ways to retrieve, on real paragraphs and questions: no model is asked, and what finds more is a candidate."""

import json
from datetime import datetime
from pathlib import Path

import pytest
import yaml
from searches import SPLITS, Run, plan_of, planned
from upath import UPath

from nightshift.errors import BadEnvironment
from nightshift.jobs import index as index_job
from nightshift.jobs import search_result
from nightshift.retrieval import partition as partitions
from nightshift.retrieval.newest import last_read, newest_index, pinned_index
from nightshift.retrieval.partition import index_by
from nightshift.settings.application import Application
from nightshift.settings.retrieval import Chunk
from nightshift.storage.application_version import Parts, open_version, publish_version
from nightshift.storage.manifest import Parent, require_manifest
from nightshift.storage.partition import read_file

XQUAD = Path(__file__).parents[1] / "retrieval" / "xquad" / "paragraphs.jsonl"
PARAGRAPHS = [json.loads(line) for line in XQUAD.read_text().splitlines()]
SHORT = {"words": 60, "overlap": 10}


@pytest.fixture
def app():
    return Application(
        name="app",
        sources=[{"uri": "a.csv", "columns": {"prompt": "q", "answer": "a", "metadata": ["found_in"]}}],
        retrieval={
            "documents": [{"name": "xquad", "uri": str(XQUAD), "columns": {"id": "id", "text": "text"}}],
            "search": "vectors", "k": 1, "relevant": "found_in",
        },
        ingest={"splits": SPLITS},
        gate={"min_examples": 10},
        search={
            "choices": {"retrieval": [{}, {"search": "bm25"}, {"chunk": SHORT, "search": "hybrid", "k": 3}]},
            "metric": "retrieval_recall", "rows": 10, "eta": 2, "final_rows": 60,
        },
    )  # fmt: skip


@pytest.fixture
def indexed(storage, progress):
    """A function that runs the job `index`."""
    return lambda app: index_job.run(index_job.Spec(application=app, storage=storage), progress)


@pytest.fixture
def weights(publish_model, publish_day, tmp_path):
    """Weights that nobody loads, beside questions that people asked about the paragraphs."""
    asked = [
        (question, "an answer", "development", None, None, [("found_in", f"xquad/{one['id']}")])
        for one in PARAGRAPHS
        for question in one["questions"]
    ]
    publish_day("2026-11-02", [("a training row", "x", "train"), ("a held-out row", "x", "held_out"), *asked])
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text("{}")
    at, made = publish_model(tmp_path / "weights")
    return Parent(uri=str(at), digest=made.digest)


@pytest.fixture
def in_use(app, storage, indexed, weights):
    """The version in use, which answers from the index."""
    indexed(app)
    parts = Parts.of(app, weights, pinned_index(app, storage))
    version, made = publish_version(app, storage, parts)
    return str(version), made.digest


def with_chunk(app, **chunk):
    return app.retrieval.model_copy(update={"chunk": Chunk(**chunk)})


def test_what_finds_more_of_what_is_relevant_becomes_a_candidate_without_a_model_being_asked(
    app, storage, progress, in_use, mlflow_store
):
    newest = newest_index(storage, "app")
    run = Run(app, storage, in_use, progress)
    trials = plan_of(run.planned).trials
    assert [one.choices.get("retrieval") for one in trials] == [
        None, {"search": "bm25"}, {"chunk": SHORT, "search": "hybrid", "k": 3},
    ]  # fmt: skip
    assert newest_index(storage, "app") == newest, "no trial changes what production is told to answer from"
    rungs = run.rungs()
    assert [[one["trial"] for one in rung] for rung in rungs] == [[0, 1, 2], [0, 2], [0, 2]]
    today, _, more = (one["metrics"] for one in rungs[0])
    assert set(more) == {"context_words", "retrieval_recall", "retrieval_mrr", "retrieval_ndcg", "context_precision"}
    assert more["context_precision"] < today["context_precision"] == today["retrieval_recall"]

    found = run.result(rungs)
    assert found.better
    assert "gain in recall of documents over today on 60 rows that no rung used" in found.reasons[0]
    version = open_version(found.model, found.model_digest, app)
    assert (version.application.index.search, version.application.index.k) == ("hybrid", 3)
    assert not (UPath(storage) / "app" / "answers").exists()
    at = UPath(found.search)
    to_copy = yaml.safe_load(read_file(at, require_manifest(at), search_result.RETRIEVAL))
    assert to_copy == {"retrieval": {"chunk": SHORT, "search": "hybrid", "k": 3}}
    page = read_file(at, require_manifest(at), search_result.PAGE).decode()
    assert page.count("<circle") == 3
    assert "words of passages a question" in page
    logged = mlflow_store.list_artifacts(found.run_url.rsplit("/", 1)[-1])
    assert {"retrieval.yaml", "search.html"} <= {file.path for file in logged}

    # When a person has copied them, the application's file asks for the version that was found, and for no other.
    copied = app.model_copy(
        update={"retrieval": app.retrieval.model_validate({**app.retrieval.model_dump(), **to_copy["retrieval"]})}
    )
    index_job.run(index_job.Spec(application=copied, storage=storage), progress)
    asked_for = Parts.of(copied, version.parts.weights, pinned_index(copied, storage))
    assert asked_for.changed_from(version.parts) == []


def test_an_index_of_the_same_documents_is_the_one_that_the_index_job_makes_byte_by_byte(
    app, storage, indexed, tmp_path
):
    indexed(app)
    cut = with_chunk(app, **SHORT)
    made = index_by(cut, pinned_index(app, storage), "app", storage)
    manifest = require_manifest(UPath(made.uri), made.digest)
    assert indexed(app.model_copy(update={"retrieval": cut})).index == made.uri, "it is found, not made again"
    UPath(made.uri).fs.rm(UPath(made.uri).path, recursive=True)
    again = require_manifest(UPath(indexed(app.model_copy(update={"retrieval": cut})).index))
    assert {file.name: file.sha256 for file in again.files} == {file.name: file.sha256 for file in manifest.files}
    assert again.digest == made.digest
    # Its documents are as old as those that it was made of, however young it is.
    read = newest_index(storage, "app").read
    assert datetime.fromisoformat(manifest.facts["read"]) < read
    assert last_read(storage, "app", manifest) == (read, True)


def test_documents_that_were_refused_are_known_of_each_index_of_them(app, storage, indexed, tmp_path):
    rows = [{"id": one["id"], "text": one["text"]} for one in PARAGRAPHS[:3]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"id": "e", "text": " "}]))
    documents = [{"name": "faq", "uri": f"{tmp_path}/rows.jsonl", "columns": {"id": "id", "text": "text"}}]
    app = app.model_copy(
        update={"retrieval": app.retrieval.model_validate({"documents": documents, "relevant": "found_in"})}
    )
    indexed(app)
    made = index_by(with_chunk(app, words=20, overlap=5), pinned_index(app, storage), "app", storage)
    assert require_manifest(UPath(made.uri), made.digest).counts["quarantined"] == 1
    assert indexed(app.model_copy(update={"retrieval": with_chunk(app, words=20, overlap=5)})).digest == made.digest


def test_a_plan_that_was_killed_finds_the_indexes_that_it_had_made(app, storage, progress, in_use, monkeypatch):
    def killed(*_):
        raise BadEnvironment("killed")

    with monkeypatch.context() as patched:
        patched.setattr("nightshift.data.search_rows.drawn_rows", killed)
        with pytest.raises(BadEnvironment):
            Run(app, storage, in_use, progress)
    monkeypatch.setattr(partitions, "make", killed)
    assert Run(app, storage, in_use, progress).planned.trials == 3


def test_without_an_index_there_is_nothing_to_search(app, storage, progress, weights):
    _, result = planned(app, storage, (weights.uri, weights.digest), progress)
    assert result.reason == "there is no index of the documents yet; app_index makes it"
