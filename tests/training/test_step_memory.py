"""What a pass holds is counted without computing it, to the byte where it can be worked out by hand."""

import pytest
import torch
from torch import nn

from nightshift.training.step_memory import FUSED, counted, on_meta

WIDTH, ROWS = 64, 10


@pytest.fixture
def chain():
    """Four layers of 64 x 64 weights without biases, and their inputs (10 x 64): 2,560 bytes each."""
    with torch.device("meta"):
        return nn.Sequential(*(nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), nn.Sigmoid()) for _ in range(4)))


def test_activations_are_counted_and_weights_are_not(chain):
    states, gradient = ROWS * WIDTH * 4, WIDTH * WIDTH * 4

    def loss():
        return chain(torch.zeros(ROWS, WIDTH, device="meta")).sum()

    held = counted(chain, loss)
    # The input and the output of each sigmoid are kept; going back adds the gradient of states, once at least.
    assert 5 * states < held.alone <= 9 * states + gradient
    assert held.with_gradients >= 4 * gradient, "at the end all gradients are there"
    assert all(parameter.grad is None for parameter in chain.parameters())


def test_frozen_weights_get_no_gradients_and_keep_less(chain):
    def loss():
        return chain(torch.zeros(ROWS, WIDTH, device="meta")).sum()

    whole = counted(chain, loss)
    chain[:3].requires_grad_(False)
    part = counted(chain, loss)
    assert part.alone < whole.alone
    assert part.with_gradients < whole.with_gradients / 2


@pytest.fixture
def base(tmp_path):
    from transformers import LlamaConfig

    LlamaConfig(
        vocab_size=1000, hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2,
    ).save_pretrained(tmp_path)  # fmt: skip
    return tmp_path


def held_by(base, rows, length, attention, *, again=False):
    model = on_meta(base, torch.bfloat16, attention)
    if again:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    ids = torch.zeros(rows, length, dtype=torch.long, device="meta")
    mask = torch.zeros(1, 1, length, length, dtype=torch.bfloat16, device="meta")
    inputs = {"input_ids": ids, "position_ids": ids, "attention_mask": mask, "use_cache": False}
    return counted(model.train(), lambda: model(**inputs).logits.float().sum()).alone


def test_fused_attention_grows_with_tokens_and_other_attention_with_their_square(base):
    assert held_by(base, 1, 4096, FUSED) == pytest.approx(4 * held_by(base, 1, 1024, FUSED), rel=0.05)
    assert held_by(base, 1, 4096, "eager") > 8 * held_by(base, 1, 1024, "eager")


def test_rows_add_up_and_computing_layers_twice_saves_their_activations(base):
    assert held_by(base, 8, 512, FUSED) == pytest.approx(2 * held_by(base, 4, 512, FUSED), rel=0.05)
    assert held_by(base, 8, 512, FUSED, again=True) < 0.8 * held_by(base, 8, 512, FUSED)
