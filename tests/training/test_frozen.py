"""Running frozen layers once changes nothing but the time: same logits, same gradients, and a whole model at the end."""

import torch
from examples_in_memory import packed_rows

from nightshift.settings.prompt import Prompt
from nightshift.settings.training import Training
from nightshift.training.answer_model import AnswerModel, summed_loss
from nightshift.training.attention import attention_for
from nightshift.training.chat_template import ChatTemplate
from nightshift.training.frozen import FrozenLayers, pays
from nightshift.training.tokens import tokenize


def cries(tokenizer):
    rows = [
        {"digest": "", "messages": [{"role": "user", "content": "help " * n}, {"role": "assistant", "content": f"{n}"}]}
        for n in range(1, 20)
    ]
    return packed_rows(tokenize(rows, ChatTemplate(tokenizer, Prompt(system="Count the cries for help."))), 200)


def step(model, batch):
    labels = batch.pop("labels")
    logits = model(**batch)
    summed_loss(logits, labels).backward()
    return logits.detach(), {name: p.grad for name, p in model.model.named_parameters() if p.grad is not None}


def test_states_kept_give_the_same_logits_and_gradients(llama, tokenizer):
    packed = cries(tokenizer)
    llama.set_attn_implementation(attention_for(200))
    llama.requires_grad_(False)
    llama.model.layers[-1:].requires_grad_(True)
    model = AnswerModel(llama, 200 + len(packed.prefix))

    rows = [3, 1, 2, -1]  # the last batch of a training is filled with empty rows
    before, gradients = step(model, packed.batch(rows, pad=0))
    llama.zero_grad()
    frozen = FrozenLayers(model, 1, [packed], pad=0)
    after, again = step(model, {**packed.batch(rows, pad=0), **frozen.of(packed, rows)})
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)
    assert again.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-4, atol=1e-6)

    names = set(llama.state_dict())
    frozen.put_back()
    assert {name for name in llama.state_dict() if ".layers.0." in name} - names
    assert len(llama.model.layers) == llama.config.num_hidden_layers


def test_it_is_done_where_it_pays(tokenizer):
    packed = [cries(tokenizer)]
    assert pays(Training(trained_layers=1, epochs=2), packed, 32)
    assert not pays(Training(epochs=2), packed, 32), "nothing is frozen"
    assert not pays(Training(trained_layers=1, epochs=1), packed, 32), "no state is used twice"
    assert not pays(Training(trained_layers=1, epochs=2), packed, 10**7), "the states would fill the memory"
