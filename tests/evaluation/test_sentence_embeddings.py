"""Sentence embeddings: near in meaning is near in space, however long, empty or hostile the text is."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from nightshift.evaluation.sentence_embeddings import DIMENSIONS, SentenceEmbedder


@pytest.fixture(scope="module")
def embedder():
    return SentenceEmbedder()


def test_sentences_of_like_meaning_are_near(embedder):
    vectors = embedder.embed(["My card has not arrived.", "I am still waiting for my bank card.", "Penguins swim."])
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > 0.5
    assert likeness[0, 2] < 0.2


def test_a_text_has_the_same_vector_in_any_batch(embedder):
    texts = ["Where is my card?", "word " * 50, "Please top up my account with twenty pounds"]
    together = embedder.embed(texts)
    alone = np.vstack([embedder.embed([text]) for text in texts])
    assert together == pytest.approx(alone, abs=1e-5)


def test_the_beginning_of_a_long_text_stands_for_it(embedder):
    vectors = embedder.embed(["word " * 62, "word " * 100_000, ""])
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-6)
    assert vectors.shape == (3, DIMENSIONS)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_vectors_are_equal_to_the_bit_on_any_number_of_processors(embedder, monkeypatch):
    texts = [f"sentence {number} " + "about a card " * (number % 17) for number in range(120)]
    vectors = []
    for count in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", count)
        vectors.append(embedder.embed(texts).tobytes())
    assert vectors[0] == vectors[1]


def test_bfloat16_points_where_float32_does(embedder):
    texts = ["Where is my card?", "You are a worthless idiot.", "word " * 62]
    quick = SentenceEmbedder("bfloat16").embed(texts)
    assert np.einsum("rd,rd->r", quick, embedder.embed(texts)) == pytest.approx(1, abs=1e-3)


def test_a_model_that_answers_afterwards_has_as_many_threads_as_before(embedder):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        embedder.embed(["Where is my card?"])
        with ThreadPoolExecutor() as later:
            assert (torch.get_num_threads(), later.submit(torch.get_num_threads).result()) == (3, 3)
    finally:
        torch.set_num_threads(before)


def test_hostile_texts_have_vectors(embedder):
    vectors = embedder.embed(["x" * 1_000_000, "\x00\x1b[31m", "\u202egnp.exe", "<script>alert(1)</script>", "🙂" * 9])
    assert np.isfinite(vectors).all()
