"""Sentence embedding models and rerankers of a folder: pooled as it says, read as text, and refused where they are others."""

import json

import numpy as np
import pytest
import torch
from sentence_models import WORDS, save
from transformers import BertForSequenceClassification, BertModel

from nightshift.errors import BadEnvironment, BadInput
from nightshift.retrieval import sentence_model
from nightshift.retrieval.embeddings import embedder_of, made_by
from nightshift.retrieval.sentence_model import PassageReranker, reranker_identity
from nightshift.settings.retrieval import Embedder, Reranker


def say_pooling(folder, **settings):
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))


def embedder(folder, **settings):
    return embedder_of(made_by(Embedder(model=str(folder), **settings)), folder, places=[str(folder)])


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_the_last_layer_is_pooled_as_the_models_folder_says(tmp_path, pooling):
    folder = save(tmp_path / "model")
    flag = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}.get(pooling, "pooling_mode_lasttoken")
    say_pooling(folder, **{flag: True})
    with torch.inference_mode():
        ids = torch.tensor([[2, *map(WORDS.index, ("query", ":", "a", "new", "card")), 3]])
        hidden = BertModel.from_pretrained(folder).eval()(ids).last_hidden_state[0].numpy()
    expected = {"mean": hidden.mean(0), "cls": hidden[0], "lasttoken": hidden[-1]}[pooling]
    (vector,) = embedder(folder, question="query: ").embed(["A new card"], question=True)
    assert np.allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)


def test_a_text_has_the_same_vector_whatever_it_is_embedded_with_and_a_long_one_is_read_from_its_beginning(tmp_path):
    model = embedder(save(tmp_path / "model"))
    texts = ["a new card", "card " * 50, "when does my new card arrive", "card " * 60]
    together = model.embed(texts)
    assert np.array_equal(together, np.vstack([model.embed([text]) for text in texts]))
    assert np.array_equal(together[1], together[3])


def test_separators_that_users_type_are_text(tmp_path):
    model = embedder(save(tmp_path / "model"))
    typed, word = model.embed(["card [SEP] cash", "card [ xyz ] cash"])
    assert np.array_equal(typed, word)  # three unknown words


def test_what_cannot_be_kept_to_is_refused(tmp_path):
    folder = save(tmp_path / "model")
    identity = made_by(Embedder(model=str(folder)))
    say_pooling(folder, pooling_mode_max_tokens=True)
    with pytest.raises(BadInput, match="the pooling is not one of mean, cls, lasttoken"):
        made_by(Embedder(model=str(folder)))
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(BadInput, match="needs Dense after its last layer"):
        made_by(Embedder(model=str(folder)))
    (folder / "model.safetensors").write_bytes((save(tmp_path / "other", seed=1) / "model.safetensors").read_bytes())
    with pytest.raises(BadInput, match="has changed since"):
        embedder_of(identity, folder, places=[str(folder)])


def test_a_model_that_cannot_be_fetched_from_one_place_is_taken_from_another(tmp_path, monkeypatch):
    folder, gone = save(tmp_path / "model"), "s3://bucket/model"
    identity = made_by(Embedder(model=str(folder)))

    def resolve(place, real=sentence_model.resolve_base_model):
        if place == gone:
            raise BadEnvironment("the bucket does not answer")
        return real(place)

    monkeypatch.setattr(sentence_model, "resolve_base_model", resolve)
    assert embedder_of(identity, folder, places=[gone, str(folder)]).dimensions
    with pytest.raises(BadEnvironment, match=r"does not answer; .*other' has changed since"):
        embedder_of(identity, folder, places=[gone, str(save(tmp_path / "other", seed=1))])


def test_a_reranker_scores_question_and_passage_together(tmp_path):
    folder = save(tmp_path / "one", BertForSequenceClassification, num_labels=1)
    reranker = PassageReranker(reranker_identity(Reranker(model=str(folder))), [str(folder)])
    passages = ["a new card arrives by post", "cash is free"]
    scores = reranker.scores("when does my card arrive", passages)
    assert scores == [reranker.scores("when does my card arrive", [one])[0] for one in passages]
    assert scores != reranker.scores("is cash free", passages)
    two = save(tmp_path / "two", BertForSequenceClassification, num_labels=2)
    with pytest.raises(BadInput, match="has 2 scores"):
        PassageReranker(reranker_identity(Reranker(model=str(two))), [str(two)])
