"""Texts embedded at an endpoint: what it is asked, what it refuses, what it costs, what is told of a wrong one."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from embedding_endpoint import DIMENSIONS, by_words, vector_of
from upath import UPath

from nightshift.errors import BadEnvironment, BadInput
from nightshift.retrieval.embeddings import embedder_of, made_by
from nightshift.retrieval.kept_vectors import KeptVectors
from nightshift.settings.retrieval import Embedder
from nightshift.storage.endpoint_accounts import endpoint_accounts, read_endpoint_account


@pytest.fixture
def embedder_at(serve, tmp_path):
    """A function that makes an embedder and the server that it asks."""

    def make(reply=by_words, kept=None, **settings):
        server = serve(reply)
        endpoint = {"url": server.url, "requests_at_once": 2, "price": 1.0, **settings.pop("endpoint", {})}
        embedder = Embedder(**{"model": "embed-1", "dimensions": DIMENSIONS, "endpoint": endpoint, **settings})
        return embedder_of(made_by(embedder), UPath(tmp_path / "app"), [embedder], kept), server

    return make


def paid(home):
    today = datetime.now(UTC).date()
    return sum(read_endpoint_account(path).cost for path in endpoint_accounts(UPath(home), today)) * 1_000_000


def test_texts_get_unit_vectors_in_their_order_and_equal_ones_are_paid_once(embedder_at, tmp_path):
    embedder, server = embedder_at(passage="passage: ")
    texts = [f"card {number % 40}" for number in range(80)]
    vectors = embedder.embed([*texts, " "])
    wanted = np.array([vector_of(f"passage: {text}") for text in texts], np.float32)
    assert np.allclose(vectors[:-1], wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-6)
    assert not vectors[-1].any()
    assert sorted(len(body["input"]) for _, _, body in server.requests) == [8, 32]
    # The server counts a token a word: three in each of 40 texts.
    assert paid(tmp_path / "app") == pytest.approx(120)
    assert embedder.embed([]).shape == (0, DIMENSIONS)


def test_the_key_of_the_connection_goes_to_the_address_in_the_file_alone(embedder_at, tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_EMBEDDER_KEY_HOSTED", "secret-key")
    embedder, server = embedder_at(endpoint={"connection": "hosted"}, question="query: ")
    embedder.embed(["is cash free"], question=True)
    path, headers, body = server.requests[0]
    assert (path, headers["Authorization"]) == ("/v1/embeddings", "Bearer secret-key")
    assert body == {"model": "embed-1", "input": ["query: is cash free"], "dimensions": DIMENSIONS}

    other = Embedder(model="m", dimensions=2, endpoint={"url": "http://other.example/v1", "connection": "hosted"})
    identity = made_by(other) | {"url": server.url}
    assert "secret-key" not in str(identity)
    with pytest.raises(BadInput, match="gives vectors of 512 numbers, and `dimensions` of the embedder is 2"):
        embedder_of(identity, UPath(tmp_path), [other]).embed(["a"])
    assert "Authorization" not in server.requests[-1][1]


def test_a_text_that_is_refused_has_no_vector_and_costs_no_other_and_a_long_one_is_read_from_its_beginning(embedder_at):
    def reply(body):
        if any("bad" in text for text in body["input"]):
            return 400, "flagged by our policy"
        if any(len(text) > 60 for text in body["input"]):
            return 400, "Invalid 'input[0]': maximum input length is 10 tokens."
        return by_words(body)

    embedder, _ = embedder_at(reply)
    first, bad, long, last = embedder.embed(["cash", "bad words", "card " * 20, "fees"])
    near, far = embedder.embed(["card", "cash"])
    assert (float(long @ near), float(first @ far)) == (pytest.approx(1), pytest.approx(1))
    assert (bad.any(), last.any()) == (False, True)


def test_an_endpoint_that_refuses_everything_is_told_from_one_that_refuses_what_it_is_given_now(embedder_at):
    embedder, server = embedder_at(lambda body: (400, "unknown model"))
    for question in (False, True):
        with pytest.raises(BadInput, match="refuses every text: status 400: unknown model"):
            embedder.embed([f"text {number}" for number in range(500)], question=question)
    assert len(server.requests) < 60
    embedder, server = embedder_at(lambda body: by_words(body) if body["input"] == ["a"] else (400, "flagged"))
    assert not embedder.embed([f"text {number}" for number in range(20)]).any()


def test_models_at_one_address_are_asked_and_paid_by_their_own_settings(serve, tmp_path):
    server = serve(by_words)
    first, second = (
        Embedder(model=model, dimensions=DIMENSIONS, endpoint={"url": server.url, "price": price})
        for model, price in (("small", 1.0), ("large", 10.0))
    )
    embedder_of(made_by(second), UPath(tmp_path), [first, second]).embed(["card"])
    assert paid(tmp_path) == pytest.approx(10)


def test_an_endpoint_that_takes_no_dimensions_is_asked_without(embedder_at):
    def reply(body):
        return (400, "model does not support changing output dimensions") if "dimensions" in body else by_words(body)

    embedder, server = embedder_at(reply)
    assert embedder.embed(["a"]).any()
    assert embedder.embed(["b"]).any()
    assert ["dimensions" in body for _, _, body in server.requests] == [True, False, False]


@pytest.mark.parametrize(
    ("status", "said", "error", "told"),
    [
        (401, "no such key", BadInput, "Are the endpoint of retrieval.embedder and the password"),
        (200, [[0.0] * DIMENSIONS], BadInput, "length is zero or not finite"),
        (200, [[float("nan")] * DIMENSIONS], BadInput, "length is zero or not finite"),
        (200, [[]], BadInput, "vectors of 0 numbers"),
        (200, [], BadEnvironment, "not a vector for each text"),
        (200, b"[" * 200_000, BadEnvironment, "not a vector for each text"),
    ],
)
def test_what_is_no_vector_is_told(embedder_at, status, said, error, told):
    embedder, _ = embedder_at(lambda body: (status, said))
    with pytest.raises(error, match=told):
        embedder.embed(["a"])


def test_texts_that_get_vectors_of_different_lengths_are_told(embedder_at):
    embedder, _ = embedder_at(lambda body: (200, [[1.0] * DIMENSIONS, []]))
    with pytest.raises(BadInput, match="vectors of 0 numbers"):
        embedder.embed(["a", "b"])


def test_tokens_below_zero_give_no_money_back(embedder_at, tmp_path):
    answer = {"data": [{"index": 0, "embedding": [1.0] * DIMENSIONS}], "usage": {"prompt_tokens": -9}}
    embedder, _ = embedder_at(lambda body: (200, json.dumps(answer).encode()))
    assert embedder.embed(["a"]).any()
    assert paid(tmp_path / "app") == 0


def test_kept_vectors_that_are_damaged_are_paid_for_once_more(embedder_at, tmp_path):
    def kept(name):
        (tmp_path / name).mkdir()
        return KeptVectors(UPath(tmp_path / "app"), "settings", tmp_path / name)

    first = embedder_at(kept=kept("first"))[0].embed(["a card"])
    (file,) = (tmp_path / "app" / "embeddings").rglob("*.npz")
    for number, damaged in enumerate([file.read_bytes()[:100], b"PK\x03\x04", b"not a file of vectors"]):
        file.write_bytes(damaged)
        again, server = embedder_at(kept=kept(str(number)))
        assert np.array_equal(again.embed(["a card"]), first)
        assert len(server.requests) == 1
        third, unasked = embedder_at(kept=kept(f"{number} again"))
        assert np.array_equal(third.embed(["a card"]), first)
        assert unasked.requests == []


@pytest.mark.parametrize("storage", ["file", "s3"], indirect=True)
def test_what_was_paid_for_is_found_after_a_kill_whatever_the_texts_stand_beside_then(embedder_at, storage, tmp_path):
    def kept(name):
        (tmp_path / name).mkdir()
        return KeptVectors(UPath(storage) / "app", "settings", tmp_path / name)

    embedder, server = embedder_at(kept=kept("first"))
    texts = [f"text {number}" for number in range(100)]
    first = embedder.embed(texts)
    again, other = embedder_at(kept=kept("second"))
    found = again.embed(["new", *texts[::-1]])
    assert (len(server.requests), [body["input"] for _, _, body in other.requests]) == (4, [["new"]])
    assert np.array_equal(found[1:], first[::-1])


@pytest.mark.parametrize("storage", ["file", "s3"], indirect=True)
def test_a_job_that_ends_leaves_what_another_one_of_the_same_settings_has_paid_for(embedder_at, storage, tmp_path):
    def kept(name):
        (tmp_path / name).mkdir()
        return KeptVectors(UPath(storage) / "app", "settings", tmp_path / name)

    embedder_at(kept=kept("killed"))[0].embed(["of before"])
    one, other = kept("one"), kept("other")
    embedder_at(kept=one)[0].embed(["mine"])
    embedder_at(kept=other)[0].embed(["theirs"])
    one.drop()
    assert set(kept("last").find(["of before", "mine", "theirs"])) == {"theirs"}
    other.drop()
    assert not kept("at last").find(["of before", "mine", "theirs"])
