"""How likely texts are, asked many at once, is what the model says of each alone."""

import random

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from nightshift.inference import likelihood
from nightshift.inference.engine import Continuation
from nightshift.inference.likelihood import log_likelihoods


@pytest.mark.parametrize("row_tokens", [8, 40, 384])
def test_shared_beginnings_do_not_change_a_likelihood(row_tokens, monkeypatch):
    monkeypatch.setattr(likelihood, "ROW_TOKENS", row_tokens)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    chance = random.Random(2)
    sequences = []
    for _ in range(12):
        start = [1, *chance.choices(range(50), k=chance.randint(1, 6))]
        sequences += [
            Continuation(start + chance.choices(range(50), k=chance.randint(1, 5)), len(start)) for _ in range(3)
        ]
    sequences.append(sequences[0])
    sequences.append(Continuation(sequences[1].tokens[:-1], 1))
    found = log_likelihoods(model, sequences)
    with torch.inference_mode():
        for one, value in zip(sequences, found, strict=True):
            chances = model(torch.tensor([one.tokens])).logits[0].log_softmax(-1)
            alone = sum(float(chances[at - 1, one.tokens[at]]) for at in range(one.start, len(one.tokens)))
            assert value == pytest.approx(alone, abs=1e-4)
