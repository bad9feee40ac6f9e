"""The rows of a training: what does not fit is counted, and too few that fit are no training."""

import pytest
from examples_in_memory import write_tokens

from nightshift.errors import BadInput
from nightshift.settings.prompt import Prompt
from nightshift.settings.training import Training
from nightshift.storage.manifest import digest_of
from nightshift.training.chat_template import ChatTemplate
from nightshift.training.task import Task, read_rows
from nightshift.training.token_files import LEARNED
from nightshift.training.tokens import tokenize


@pytest.fixture
def task(tmp_path, tokenizer):
    """A training on 20 examples, of which 15 are long."""

    def rows(count):
        for number in range(count):
            asked = f"{number:02} " + ("where is my card " * 20 if number % 4 else "where is it")
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": "card arrival"}]
            yield {"digest": f"{number:064}", "messages": turns}

    template = ChatTemplate(tokenizer, Prompt(system="Name the intent."))
    tokens = write_tokens(tmp_path, tokenize(rows(20), template), tokenize(rows(8), template))

    def made(**training):
        return Task(
            application="app", base_model=tmp_path, base_model_name="tiny", tokens=tokens, checkpoints="", inputs={},
            training=Training(sequence_length=64, **training), work=tmp_path, output=tmp_path,
        )  # fmt: skip

    return made


def learned(rows, tokenizer):
    examples = [rows.train.examples[number] for number in rows.train.packing.examples]
    return [tokenizer.decode(example[example >= LEARNED] & ~LEARNED) for example in examples]


def test_a_training_on_the_few_that_fit_is_refused_with_their_share(task, tokenizer):
    with pytest.raises(
        BadInput, match=r"15 of 20 training examples \(75%\) are longer.* 5 fit.*at least 6 .*too_long: cut"
    ):
        read_rows(task(min_examples=6))
    assert len(learned(read_rows(task(min_examples=5)), tokenizer)) == 5


def test_examples_that_are_cut_are_all_trained_on(task, tokenizer):
    rows = read_rows(task(min_examples=20, too_long="cut"))
    assert learned(rows, tokenizer) == ["card arrival<|end|>"] * 20
    assert rows.train.packing.too_long == 0
    assert tokenizer.decode(rows.train.prefix).startswith("<|start|>system\nName the intent.<|end|>")


def test_new_settings_change_no_address_where_they_are_not_given():
    # The address of every model that is there rests on it.
    assert digest_of(Training().model_dump(mode="json"))[:16] == "9fb63a5f0e8a001d"
    other = Training(loss_on="all_answers", too_long="cut", lora_alpha=8, deepspeed={"zero_optimization": {"a": 1}})
    assert Training.model_validate(other.model_dump(mode="json")) == other
    assert "system_in_user_turn" not in Prompt().model_dump(mode="json")
