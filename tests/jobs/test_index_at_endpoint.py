"""An index whose passages an endpoint embeds: it is found again, is searched through the endpoint, and nothing is paid twice."""

import json

import pytest
from embedding_endpoint import DIMENSIONS, by_words
from upath import UPath

from nightshift.errors import BadEnvironment
from nightshift.inference.retrieving import Retriever
from nightshift.jobs.index import Spec, run
from nightshift.retrieval.newest import pinned_index
from nightshift.settings.application import Application
from nightshift.storage.files import names_in
from nightshift.storage.manifest import require_manifest

TEXTS = {f"d{number:03}": f"Fee number {number} is {number} euros." for number in range(80)}


@pytest.fixture
def server(serve):
    return serve(by_words)


@pytest.fixture
def application(server, tmp_path):
    documents = [{"uri": f"{tmp_path}/rows.jsonl", "columns": {"id": "id", "text": "text"}}]
    endpoint = {"url": server.url, "requests_at_once": 1}
    embedder = {"model": "embed-1", "dimensions": DIMENSIONS, "endpoint": endpoint}
    return Application(
        name="app",
        sources=[{"uri": "rows.jsonl", "columns": {"prompt": "text", "answer": "answer"}}],
        retrieval={"documents": documents, "embedder": embedder, "search": "vectors", "k": 1},
    )


@pytest.fixture
def indexed(application, storage, progress, tmp_path):
    def run_index(texts):
        rows = [{"id": name, "text": text} for name, text in texts.items()]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return run(Spec(application=application, storage=storage), progress)

    return run_index


def asked(server):
    texts = [text for _, _, body in server.requests for text in body["input"]]
    server.requests.clear()
    return texts


def test_a_job_that_was_killed_goes_on_with_the_vectors_that_were_paid_for(indexed, server, storage, monkeypatch):
    monkeypatch.setattr("nightshift.endpoint_client.TRIES", 1)
    server.reply = lambda body: by_words(body) if len(server.requests) < 3 else (503, "overloaded")
    with pytest.raises(BadEnvironment, match="overloaded"):
        indexed(TEXTS)
    assert len(asked(server)) == 80
    server.reply = by_words
    result = indexed({"a": "A new one.", **TEXTS})
    assert sorted(asked(server)) == sorted(["A new one.", *[TEXTS[f"d{number:03}"] for number in range(64, 80)]])
    kept = UPath(storage) / "app" / "embeddings"
    assert not [name for month in names_in(kept) for name in names_in(kept / month)]

    changed = indexed({**TEXTS, "d003": "Fee three is gone."})
    assert (changed.unchanged, changed.removed, asked(server)) == (79, 1, ["Fee three is gone."])
    assert indexed({"a": "A new one.", **TEXTS}).digest == result.digest
    assert asked(server) == []


def test_the_address_holds_model_and_endpoint_and_questions_are_embedded_there_too(
    indexed, server, application, storage, tmp_path
):
    result = indexed(TEXTS)
    identity = require_manifest(UPath(result.index), result.digest).inputs["embedder"]
    assert identity == {
        "url": server.url, "model": "embed-1", "dimensions": DIMENSIONS, "question": "", "passage": "",
    }  # fmt: skip
    asked(server)
    answering = application.answering_from(pinned_index(application, storage))
    rows = [{"messages": [{"role": "user", "content": text}]} for text in ("what is fee number 7", "is fee 12 due", "")]
    first, second, _ = Retriever(answering, tmp_path).given(rows)
    assert (first["retrieved"][0]["document"], second["retrieved"][0]["document"]) == (
        "documents/d007",
        "documents/d012",
    )
    assert asked(server) == ["what is fee number 7", "is fee 12 due"]
