"""Batched answers are those that the model gives one by one, and losses those of a plain forward pass."""

import pytest

from nightshift.settings.application import Prompt
from nightshift.training.chat_template import ChatTemplate
from nightshift.training.tokens import tokenize

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def loaded():
    """The sample's base model, in full precision so that batching changes no digit that counts."""
    from nightshift.evaluation.generate import load
    from nightshift.training.base_model import resolve_base_model

    model = load(resolve_base_model("smollm2-135m-instruct"))
    model.model.float()
    return model


QUESTIONS = [
    ("What is the capital of France?", "Paris"),
    ("Where is my card? I ordered it two weeks ago, and nothing has arrived in the post since then.", "card arrival"),
    ("Hi", "hello there, how can I help you today with your account?"),
    ("Tell me a colour.", "blue"),
    ("List three fruits, one after the other, separated by commas.", "apple, pear, plum"),
]


@pytest.fixture(scope="module")
def examples(loaded):
    rows = [
        {
            "digest": question,
            "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        }
        for question, answer in QUESTIONS
    ]
    return list(tokenize(rows, ChatTemplate(loaded.tokenizer, Prompt(system="You are a helpful assistant of a bank."))))


def test_batches_answer_as_the_model_does_alone(loaded, examples):
    import torch

    from nightshift.evaluation.generate import answer_all

    batched = answer_all(loaded, examples, max_new_tokens=12, batch_size=4)
    for example, answer in zip(examples, batched, strict=True):
        prompt = torch.tensor([example.prompt])
        alone = loaded.model.generate(prompt, do_sample=False, max_new_tokens=12, pad_token_id=2)[0, prompt.shape[1] :]
        assert answer.text == loaded.tokenizer.decode(alone, skip_special_tokens=True).strip()
        assert answer.finished is (int(alone[-1]) in loaded.end_tokens)
        assert answer.tokens == len(alone) - answer.finished


def test_losses_are_those_of_a_plain_forward_pass(loaded, examples):
    import torch

    from nightshift.evaluation.generate import answer_all

    batched = answer_all(loaded, examples, max_new_tokens=1, batch_size=5)
    for example, answer in zip(examples, batched, strict=True):
        with torch.inference_mode():
            logits = loaded.model(torch.tensor([example.prompt + example.answer])).logits[0]
        nll = torch.log_softmax(logits[len(example.prompt) - 1 : -1], dim=-1)
        expected = -nll[torch.arange(len(example.answer)), torch.tensor(example.answer)].sum()
        assert answer.wanted_loss == pytest.approx(float(expected), rel=1e-3)


def test_prompts_with_nothing_in_common_and_a_single_prompt_work_too(loaded):
    from nightshift.evaluation.generate import answer_all
    from nightshift.training.tokens import TokenizedExample

    ids = loaded.tokenizer
    texts = [("Paris is the capital of", " France"), ("One", " two three")]
    pairs = [(ids(given)["input_ids"], ids(said)["input_ids"]) for given, said in texts]
    unlike = [TokenizedExample([*given, *said], ((len(given), len(given) + len(said)),)) for given, said in pairs]
    both = answer_all(loaded, unlike, max_new_tokens=5, batch_size=2)
    assert [answer_all(loaded, [one], max_new_tokens=5, batch_size=2)[0].text for one in unlike] == [
        answer.text for answer in both
    ]
    assert answer_all(loaded, [], max_new_tokens=5, batch_size=2) == []


def test_an_example_that_is_more_than_the_model_reads_is_not_asked(loaded, examples):
    from nightshift.evaluation.generate import answer_all
    from nightshift.training.tokens import TokenizedExample

    longest = loaded.model.config.max_position_embeddings
    long = TokenizedExample([5] * longest, ((longest - 2, longest),))
    first, none, last = answer_all(loaded, [examples[0], long, examples[1]], max_new_tokens=4, batch_size=8)
    assert none.too_long
    assert (none.text, none.tokens, none.finished, none.wanted_loss) == ("", 0, False, 0.0)
    assert [first, last] == answer_all(loaded, examples[:2], max_new_tokens=4, batch_size=8)
