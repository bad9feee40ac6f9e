"""Batched answers are those that the model gives one by one, and losses those of a plain forward pass."""

import pytest

from nightshift.settings.decoding import Decoding
from nightshift.settings.prompt import Prompt
from nightshift.training.chat_template import ChatTemplate
from nightshift.training.tokens import tokenize

pytestmark = pytest.mark.slow
PROMPT = Prompt(system="You are a helpful assistant of a bank.")
QUESTIONS = [
    ("What is the capital of France?", "Paris"),
    ("Where is my card? I ordered it two weeks ago, and nothing has arrived in the post since then.", "card arrival"),
    ("Hi", "hello there, how can I help you today with your account?"),
    ("Tell me a colour.", "blue"),
    ("List three fruits, one after the other, separated by commas.", "apple, pear, plum"),
]


@pytest.fixture(scope="module")
def loaded():
    """The sample's base model, in full precision so that batching changes no digit that counts."""
    from nightshift.inference.model import load
    from nightshift.training.base_model import resolve_base_model

    model = load(resolve_base_model("smollm2-135m-instruct"))
    model.model.float()
    return model


@pytest.fixture(scope="module")
def engine_of(loaded):
    from nightshift.inference.chat_engine import ChatEngine
    from nightshift.inference.transformers_engine import TransformersEngine

    def make(most, prompt=PROMPT, decoding=Decoding(), batch_rows=4):  # noqa: B008
        engine = TransformersEngine(
            loaded, max_new_tokens=most, batch_tokens=16_384, batch_rows=batch_rows, decoding=decoding
        )
        return ChatEngine(engine, prompt, decoding, max_new_tokens=most)

    return make


def row(question, answer):
    return {
        "digest": question,
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
    }


ROWS = [row(question, answer) for question, answer in QUESTIONS]


def silent(_done, _of):
    pass


def test_batches_answer_as_the_model_does_alone(loaded, engine_of):
    import torch

    examples = tokenize(ROWS, ChatTemplate(loaded.tokenizer, PROMPT))
    for example, answer in zip(examples, engine_of(12).answer(ROWS, silent, references=True), strict=True):
        prompt = torch.tensor([example.prompt])
        alone = loaded.model.generate(prompt, do_sample=False, max_new_tokens=12, pad_token_id=2)[0, prompt.shape[1] :]
        ended = int(alone[-1]) in loaded.end_tokens
        assert answer.text == loaded.tokenizer.decode(alone, skip_special_tokens=True).strip()
        assert answer.finish_reason == ("stop" if ended else "length")
        assert (answer.tokens, answer.prompt_tokens) == (len(alone) - ended, len(example.prompt))


def test_losses_are_those_of_a_plain_forward_pass(loaded, engine_of):
    import torch

    examples = tokenize(ROWS, ChatTemplate(loaded.tokenizer, PROMPT))
    for example, answer in zip(examples, engine_of(1, batch_rows=5).answer(ROWS, silent, references=True), strict=True):
        with torch.inference_mode():
            logits = loaded.model(torch.tensor([example.prompt + example.answer])).logits[0]
        nll = torch.log_softmax(logits[len(example.prompt) - 1 : -1], dim=-1)
        expected = -nll[torch.arange(len(example.answer)), torch.tensor(example.answer)].sum()
        assert answer.reference.loss == pytest.approx(float(expected), rel=1e-3)
        assert answer.reference.tokens == len(example.answer)


def test_conversations_with_little_in_common_and_a_single_one_work_too(engine_of):
    engine = engine_of(5, batch_rows=2)
    both = engine.answer(ROWS[:2], silent)
    assert [engine.answer([one], silent)[0].text for one in ROWS[:2]] == [answer.text for answer in both]
    assert engine.answer([], silent) == []


def test_a_conversation_that_is_more_than_the_model_reads_is_not_asked(engine_of):
    long, engine = row("word " * 9_000, "yes"), engine_of(4)
    first, none, last = engine.answer([ROWS[0], long, ROWS[1]], silent, references=True)
    assert none.too_long
    assert (none.text, none.tokens, none.finish_reason, none.reference.loss) == ("", 0, "length", 0.0)
    assert [first.text, last.text] == [answer.text for answer in engine.answer(ROWS[:2], silent)]


def test_drawn_answers_depend_on_the_row_and_the_sample_alone(engine_of):
    drawn = Decoding(temperature=1.2, top_p=0.9)
    together = [answer.text for answer in engine_of(12, decoding=drawn).answer(ROWS, silent)]
    others = list(reversed(ROWS))
    alone = [answer.text for answer in engine_of(12, decoding=drawn, batch_rows=1).answer(others, silent)]
    assert together == list(reversed(alone))
    assert together != [answer.text for answer in engine_of(12, decoding=drawn).answer(ROWS, silent, sample=1)]
    assert together != [answer.text for answer in engine_of(12).answer(ROWS, silent)]


def test_an_answer_ends_before_a_stop_string(engine_of):
    whole = engine_of(30).answer(ROWS[:1], silent)[0]
    word = whole.text.split()[2]
    (cut,) = engine_of(30, decoding=Decoding(stop=[word])).answer(ROWS[:1], silent)
    assert cut.text == whole.text.partition(word)[0].strip()
    assert cut.finish_reason == "stop"
    assert cut.tokens < whole.tokens


def test_thoughts_are_counted_and_are_no_part_of_the_answer(loaded):
    from nightshift.inference.chat_engine import ChatEngine
    from nightshift.inference.engine import Generated

    class Thinker:
        """Says the same to every prompt."""

        name, device, precision, longest, tokenizer = "thinker", "cpu", "float32", 1_000, loaded.tokenizer

        def generate(self, prompts, report, *, seeds=None, references=None):
            thought, answer = (
                self.tokenizer(text)["input_ids"] for text in ("<think>it waits</think>", "\n\ncard arrival")
            )
            self.thought = len(thought)
            return [Generated([*thought, *answer], "stop", 1.0) for _ in prompts]

    thinker = Thinker()
    (answer,) = ChatEngine(thinker, PROMPT, Decoding(), max_new_tokens=50).answer(ROWS[:1], silent, references=True)
    assert (answer.text, answer.reasoning) == ("card arrival", "it waits")
    assert 0 < answer.reasoning_tokens <= thinker.thought < answer.tokens
    assert (answer.reference.text, answer.reference.tokens, answer.reference.loss) == ("Paris", 0, 0.0)
