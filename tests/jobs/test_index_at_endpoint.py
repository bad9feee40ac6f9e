"""An index whose passages an endpoint embeds: it is found again, is searched through the endpoint, and nothing is paid twice."""

import json

import pytest
from embedding_endpoint import DIMENSIONS, by_words
from numpy.random import default_rng
from upath import UPath

from nightshift.errors import BadEnvironment, BadInput
from nightshift.inference.answering import Answering
from nightshift.inference.engines import ENDPOINT
from nightshift.inference.prompts import Prompts
from nightshift.inference.retrieving import Retriever
from nightshift.jobs.index import Spec, run
from nightshift.retrieval.endpoint_embedder import EndpointEmbedder
from nightshift.retrieval.newest import pinned_index
from nightshift.settings.application import Application
from nightshift.settings.policies import Inference
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


def kept(tmp_path):
    return [*tmp_path.rglob("embeddings/**/*.npz")]


def test_a_job_that_was_killed_goes_on_with_the_vectors_that_were_paid_for(indexed, server, tmp_path, monkeypatch):
    monkeypatch.setattr("nightshift.endpoint_client.TRIES", 1)
    server.reply = lambda body: by_words(body) if len(server.requests) < 3 else (503, "overloaded")
    with pytest.raises(BadEnvironment, match="overloaded"):
        indexed(TEXTS)
    assert len(asked(server)) == 80
    server.reply = by_words
    result = indexed({"a": "A new one.", **TEXTS})
    assert sorted(asked(server)) == sorted(["A new one.", *[TEXTS[f"d{number:03}"] for number in range(64, 80)]])
    assert kept(tmp_path) == []

    changed = indexed({**TEXTS, "d003": "Fee three is gone."})
    assert (changed.unchanged, changed.removed, asked(server)) == (79, 1, ["Fee three is gone."])
    assert indexed({"a": "A new one.", **TEXTS}).digest == result.digest
    assert asked(server) == []


def test_new_documents_that_are_refused_stop_no_index_unless_no_passage_of_it_is_embedded(indexed, server):
    flagged = {f"new{number}": f"Flagged {number}." for number in range(20)}

    def reply(body):
        return (400, "flagged") if any("Flagged" in text for text in body["input"]) else by_words(body)

    server.reply = reply
    with pytest.raises(BadInput, match="refuses every passage"):
        indexed(flagged)
    assert indexed(TEXTS).unchanged == 0
    result = indexed(TEXTS | flagged)
    assert (result.unchanged, result.chunks) == (80, 100)


def test_large_documents_are_embedded_some_at_a_time(indexed, monkeypatch):
    monkeypatch.setattr("nightshift.data.pieces.PIECE_BYTES", 300)
    together, embed = [], EndpointEmbedder.embed
    monkeypatch.setattr(EndpointEmbedder, "embed", lambda *args: together.append(len(args[1])) or embed(*args))
    assert indexed(TEXTS).chunks == sum(together) == 80
    assert max(together) < 15


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


def test_a_batch_that_a_killed_job_began_is_found_although_the_endpoint_gives_other_vectors_each_time(  # noqa: PLR0917
    indexed, server, application, storage, publish_day, tmp_path
):
    indexed(TEXTS)
    asked(server)
    numbers = default_rng(7)

    def reply(body):
        return 200, numbers.random((len(body["input"]), DIMENSIONS)).tolist() if "input" in body else "5 euros"

    server.reply = reply
    where = {"endpoint": {"url": server.url, "model": "hosted-1", "batch": {}}, "rows_per_part": 4}
    hosted = application.model_copy(update={"inference": Inference(**where)})
    answering_app = hosted.answering_from(pinned_index(application, storage))
    (tmp_path / ENDPOINT).write_text(json.dumps(hosted.inference.hosted.identity))
    partition, manifest = publish_day("2026-11-02", [(f"what is fee {n}", "5 euros", "traffic") for n in range(8)])
    parts = [(0, 3), (4, 7)]

    def job(name):
        return Answering(
            answering_app, Prompts(partition, manifest, tmp_path / name), storage, UPath(storage) / "app/responses/x",
            inputs={}, parents=[], model_folder=lambda: tmp_path, folder=tmp_path / name / "index", in_batches=True,
        )  # fmt: skip

    job("killed").announce(parts)
    again = job("again")
    again.announce(parts)
    assert [again.make(*part, lambda *_: None).counts["rows"] for part in parts] == [4, 4]
    assert len(server.batches) == 2
    assert sum(len(body["input"]) for path, _, body in server.requests if path.endswith("embeddings")) == 8
    assert kept(tmp_path)
    again.finish()
    assert kept(tmp_path) == []
