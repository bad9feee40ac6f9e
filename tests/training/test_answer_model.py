"""A packed row gives each example the very logits that it gets alone; a mask that leaks is noticed."""

import pytest
import torch
from examples_in_memory import packed_rows

from nightshift.errors import BadInput
from nightshift.settings.prompt import Prompt
from nightshift.training.answer_model import AnswerModel, summed_loss
from nightshift.training.attention import attention_for
from nightshift.training.chat_template import ChatTemplate
from nightshift.training.packing import collate
from nightshift.training.tokens import tokenize

QUESTIONS = {
    "Where is my card?": "card arrival",
    "I lost my phone, what now?": "lost phone",
    "Top up failed twice": "top up failed",
    "Why was I charged a fee for the cash machine abroad?": "cash fee",
    "hi": "greeting",
}


def tokens(tokenizer):
    rows = [
        {"digest": "d" * 64, "messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        for q, a in QUESTIONS.items()
    ]
    return list(tokenize(rows, ChatTemplate(tokenizer, Prompt(system="Name the intent."))))


def alone(model, example):
    """Logits at the positions that predict the example's answer, from the example in a batch of its own."""
    logits = model(torch.tensor([[*example.prompt, *example.answer]]), use_cache=False).logits[0]
    return logits[len(example.prompt) - 1 : -1]


def packed_and_alone(model, examples, length, prefix=None, leak=False):
    packed = packed_rows(examples, length, prefix)
    assert len(packed) < len(examples), "nothing is packed, the comparison would show nothing"
    batch = packed.batch(range(len(packed)), pad=0)
    labels = batch.pop("labels")
    if leak:
        batch["document"] = batch["document"].clamp(max=1)
    with torch.no_grad():
        apart = torch.cat([alone(model, examples[number]) for number in packed.packing.examples])
        together = AnswerModel(model, length + len(packed.prefix))(**batch)
    return together, apart, labels


@pytest.mark.parametrize("attention", ["sdpa", "short rows"])
@pytest.mark.parametrize("shared", [True, False], ids=["prefix shared", "prefix in each example"])
def test_packed_examples_do_not_see_each_other(llama, tokenizer, shared, attention):
    examples = tokens(tokenizer)
    llama.set_attn_implementation("sdpa" if attention == "sdpa" else attention_for(300))
    together, apart, labels = packed_and_alone(llama, examples, 300, None if shared else [])
    assert (together - apart).abs().max() < 1e-5
    wanted = labels[labels >= 0]
    expected = torch.nn.functional.cross_entropy(apart, wanted, reduction="sum")
    assert summed_loss(together, labels) == pytest.approx(expected.item(), rel=1e-5)


def test_the_comparison_notices_a_leak(llama, tokenizer):
    examples = tokens(tokenizer)
    together, apart, _ = packed_and_alone(llama, examples, 300, leak=True)
    assert (together - apart).abs().max() > 1e-2


def test_gradients_of_packed_examples_are_those_of_separate_ones(llama, tokenizer):
    examples = tokens(tokenizer)
    for example in examples:
        wanted = torch.tensor(example.answer)
        torch.nn.functional.cross_entropy(alone(llama, example), wanted, reduction="sum").backward()
    apart = {name: parameter.grad.clone() for name, parameter in llama.named_parameters()}
    llama.zero_grad()
    packed = packed_rows(examples, 300)
    llama.set_attn_implementation(attention_for(300))
    batch = packed.batch(range(len(packed)), pad=0)
    labels = batch.pop("labels")
    summed_loss(AnswerModel(llama, 300 + len(packed.prefix))(**batch), labels).backward()
    for name, parameter in llama.named_parameters():
        torch.testing.assert_close(parameter.grad, apart[name], rtol=1e-3, atol=1e-5)


def test_a_batch_without_an_answer_adds_nothing(llama):
    batch = collate([[], []], [], 16, pad=0)
    labels = batch.pop("labels")
    assert summed_loss(AnswerModel(llama, 16)(**batch), labels).item() == 0


def test_a_model_that_cannot_keep_examples_apart_is_refused(llama):
    llama.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(BadInput, match="linear_attention"):
        AnswerModel(llama, 128)


def test_a_row_beyond_the_attention_window_is_refused(llama):
    llama.config.layer_types = ["full_attention", "sliding_attention"]
    llama.config.sliding_window = 64
    AnswerModel(llama, 64)
    with pytest.raises(BadInput, match="window of 64"):
        AnswerModel(llama, 65)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["sdpa", "short rows"])
def test_the_real_model_keeps_packed_examples_apart(attention):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from nightshift.training.base_model import resolve_base_model

    folder = resolve_base_model("smollm2-135m-instruct")
    examples = tokens(AutoTokenizer.from_pretrained(folder))

    def compare(leak):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        model.set_attn_implementation("sdpa" if attention == "sdpa" else attention_for(128))
        together, apart, _ = packed_and_alone(model, examples, 128, leak=leak)
        return (together - apart).abs().max()

    assert compare(leak=False) < 1e-3
    assert compare(leak=True) > 1
