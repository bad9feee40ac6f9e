"""The engine for long rows gives each packed example the loss that it has alone, and holds nothing that grows with L x L."""

from itertools import pairwise

import pytest
import torch
from examples_in_memory import example, packed_rows
from families import FAMILIES, family
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AttentionInterface

from nightshift.errors import BadInput
from nightshift.settings.training import Training
from nightshift.training import stock_model, varlen_attention
from nightshift.training.answer_model import AnswerModel
from nightshift.training.attention import attention_for
from nightshift.training.stock_model import StockModel
from nightshift.training.varlen_attention import attention_of

SDPA = Training(engine="stock", precision="fp32", attention="sdpa")
VOCABULARY = 250


def examples():
    """Six examples of some tokens that begin alike."""
    return [
        example([3, 1, 4, *(n * 37 % VOCABULARY for n in range(7 * some, 9 * some + 4))], [some + 9, 5])
        for some in range(1, 7)
    ]


def engine(name, model, length=64):
    """A model with an engine, and rows as this reads them."""
    if name == "stock":
        model.set_attn_implementation(attention_of(SDPA))
        return StockModel(model), packed_rows(examples(), length, shared=False)
    packed = packed_rows(examples(), length)
    model.set_attn_implementation(attention_for(packed.longest))
    return AnswerModel(model, packed.longest), packed


def loss_of(reads, packed, rows=None):
    batch = reads.batch(packed, range(len(packed)) if rows is None else rows, pad=0)
    labels = batch.pop("labels")
    return reads.summed_loss(reads(**batch), labels)


def alone(model, each):
    logits = model(torch.tensor([[*each.prompt, *each.answer]]), use_cache=False).logits[0]
    scored = logits[len(each.prompt) - 1 : -1]
    return torch.nn.functional.cross_entropy(scored, torch.tensor(each.answer), reduction="sum")


def gradients(model):
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("which", ["stock", "short_rows"])
@pytest.mark.parametrize("name", FAMILIES)
def test_packed_examples_of_each_family_learn_what_they_would_alone(name, which):
    model = family(name, VOCABULARY)
    expected = sum(alone(model, each) for each in examples())
    expected.backward()
    apart = gradients(model)

    reads, packed = engine(which, model)
    assert len(packed) < len(examples()), "nothing is packed, the comparison would show nothing"
    loss = loss_of(reads, packed)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    together = gradients(model)
    assert together.keys() == apart.keys()
    for weight, gradient in apart.items():
        torch.testing.assert_close(together[weight], gradient, rtol=1e-3, atol=2e-5, msg=weight)


def test_beyond_its_window_a_token_sees_what_the_models_own_mask_shows_it():
    model = family("mistral", VOCABULARY, sliding_window=5)
    expected = sum(alone(model, each) for each in examples())
    reads, packed = engine("stock", model)
    loss = loss_of(reads, packed)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    model.config.sliding_window = None
    assert loss_of(reads, packed).item() != pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma2", "cohere"])
def test_a_loss_in_parts_is_that_of_all_logits(name, monkeypatch):
    model = family(name, VOCABULARY, **({"attn_logit_softcapping": None} if name == "gemma2" else {}))
    expected = sum(alone(model, each) for each in examples())
    expected.backward()
    whole = gradients(model)
    monkeypatch.setattr(stock_model, "LOGITS_AT_ONCE", 3 * VOCABULARY)
    reads, packed = engine("stock", model)
    loss = loss_of(reads, packed)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for weight, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, whole[weight], rtol=1e-3, atol=2e-5, msg=weight)


def test_a_row_that_only_fills_a_batch_adds_nothing():
    reads, packed = engine("stock", family("llama", VOCABULARY))
    loss = loss_of(reads, packed, rows=[-1])
    loss.backward()
    assert loss.item() == 0
    assert loss_of(reads, packed, rows=[0, -1]).item() == loss_of(reads, packed, rows=[0]).item()


def test_an_attention_that_forgets_where_examples_begin_is_noticed_before_the_first_step():
    def leaky(module, query, key, value, _mask, scaling=None, **_ignored):
        seen = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=True)
        return seen.transpose(1, 2), None

    AttentionInterface.register("leaky", leaky)
    reads, _ = engine("stock", family("llama", VOCABULARY))
    reads.check(reads)
    reads.model.set_attn_implementation("leaky")
    with pytest.raises(BadInput, match="would see the one before it through a llama model"):
        reads.check(reads)


def test_a_model_that_does_more_to_its_logits_is_trained_on_its_own_ones(caplog):
    model = family("llama", VOCABULARY)
    own = model.forward
    model.forward = lambda *given, **named: type("Output", (), {"logits": own(*given, **named).logits * 3})
    expected = sum(alone(model, each) for each in examples())
    reads, packed = engine("stock", model)
    reads.check(reads)
    assert "all at once" in caplog.text
    assert loss_of(reads, packed).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("which", "name", "asked"),
    [
        ("stock", "gemma2", "soft-capped scores, .*, or engine: short_rows"),
        ("stock", "gpt_oss", "attention sinks"),
        ("short_rows", "gpt_oss", "attention sinks"),
    ],
)
def test_attention_that_an_engine_does_not_compute_is_refused_by_name(which, name, asked):
    model = family(name, VOCABULARY, **({"head_dim": 16} if name == "gpt_oss" else {}))
    with pytest.raises(BadInput, match=f"needs {asked}"):
        loss_of(*engine(which, model))


def test_short_rows_cap_their_scores_as_the_model_does():
    model = family("gemma2", VOCABULARY, attn_logit_softcapping=0.01)
    expected = sum(alone(model, each) for each in examples())
    assert loss_of(*engine("short_rows", model)).item() == pytest.approx(expected.item(), rel=1e-5)


class Largest(TorchDispatchMode):
    """The most elements that any operation's result has."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for each in result if isinstance(result, tuple | list) else [result]:
            if isinstance(each, torch.Tensor):
                self.elements = max(self.elements, each.numel())
        return result


@pytest.mark.parametrize("window", [None, 64])
def test_memory_grows_with_the_tokens_of_a_row_not_with_their_square(window):
    model = family("mistral", VOCABULARY, sliding_window=window, max_position_embeddings=4096)
    model.set_attn_implementation(attention_of(SDPA))
    reads = StockModel(model)
    largest = []
    for length in (1024, 2048):
        long = [example([n % VOCABULARY for n in range(length - 2)], [7, 8])]
        with Largest() as seen:
            loss_of(reads, packed_rows(long, length, shared=False)).backward()
        largest.append(seen.elements)
    assert largest[1] <= 2 * largest[0]
    assert largest[1] <= 2048 * 64


def test_the_stock_engine_keeps_what_all_begin_with_where_it_cuts():
    long = [example([3, 1, 4, *range(10, 60)], [7, 8]), example([3, 1, 4, 15, 9], [2, 6])]
    packed = packed_rows(long, 20, prefix=[3, 1, 4], too_long="cut", shared=False)
    batch = packed.in_line(range(len(packed)), pad=0)
    ids = batch["input_ids"][0].tolist()
    assert [3, 1, 4, *range(45, 60), 7, 8] in (ids[:20], ids[-20:])
    assert [3, 1, 4, 15, 9, 2, 6] in (ids[:7], ids[-7:])
    assert batch["starts"].tolist() in ([0, 20, 27], [0, 7, 27])
    assert packed.tokens.sum() == 27


@pytest.mark.parametrize("window", [None, 5])
def test_the_kernel_of_a_gpu_is_asked_for_the_same_attention(monkeypatch, window):
    """Torch's variable-length kernel runs on GPUs alone; what stands in for it here has its arguments and computes them."""

    def kernel(query, key, value, starts, _starts, most, _most, *, scale, window_size, enable_gqa):
        assert query.dim() == key.dim() == 3
        assert enable_gqa
        attended = []
        for begin, end in pairwise(starts.tolist()):
            assert end - begin <= most
            back = torch.arange(end - begin)[:, None] - torch.arange(end - begin)
            seen = (back >= 0) & ((back <= window_size[0]) | (window_size[0] < 0))
            some = (each[begin:end].transpose(0, 1) for each in (query, key, value))
            attended.append(scaled_dot_product_attention(*some, seen, scale=scale, enable_gqa=True).transpose(0, 1))
        return torch.cat(attended)

    reads, packed = engine("stock", family("mistral", VOCABULARY, sliding_window=window))
    expected = loss_of(reads, packed).item()
    monkeypatch.setattr(varlen_attention, "varlen_attn", kernel)
    monkeypatch.setattr(varlen_attention, "_kernel_computes", lambda *_: True)
    assert loss_of(reads, packed).item() == pytest.approx(expected, rel=1e-6)
