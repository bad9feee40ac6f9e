"""What the model reads and what it learns: the application's words, the model's template, the last answer."""

import pytest

from nightshift.errors import BadInput
from nightshift.settings.prompt import Prompt
from nightshift.training.chat_template import ChatTemplate
from nightshift.training.tokens import prompt_ids, tokenize

BANK = Prompt(system="You work for a bank.", user="Customer: {prompt}")
ASKED = {"role": "user", "content": "Where is my card?"}
ANSWERED = {"role": "assistant", "content": "card arrival"}


def row(*turns):
    return {"digest": "d" * 64, "messages": list(turns)}


def learn(rows, tokenizer, prompt, **options):
    return list(tokenize(rows, ChatTemplate(tokenizer, prompt), **options))


def ask(rows, tokenizer, prompt):
    return list(prompt_ids(rows, ChatTemplate(tokenizer, prompt)))


def texts(tokenizer, examples):
    return [(tokenizer.decode(example.prompt), tokenizer.decode(example.answer)) for example in examples]


def test_a_single_turn_is_asked_in_the_applications_words_and_only_the_answer_is_learned(tokenizer):
    learned = learn([row(ASKED, ANSWERED)], tokenizer, BANK)
    assert texts(tokenizer, learned) == [
        (
            "<|start|>system\nYou work for a bank.<|end|>\n<|start|>user\nCustomer: Where is my card?<|end|>\n"
            "<|start|>assistant\n",
            "card arrival<|end|>",
        )
    ]


def test_a_longer_conversation_keeps_its_turns_and_only_the_last_answer_is_learned(tokenizer):
    again = {"role": "user", "content": "Still not here."}
    sorry = {"role": "assistant", "content": "sorry"}
    ((prompt, answer),) = texts(tokenizer, learn([row(ASKED, ANSWERED, again, sorry)], tokenizer, BANK))
    assert answer == "sorry<|end|>"
    assert "Customer:" not in prompt
    assert prompt.startswith("<|start|>system\nYou work for a bank.<|end|>\n<|start|>user\nWhere is my card?")
    assert "card arrival<|end|>" in prompt


RULES = {"role": "system", "content": "You work for a shop."}


@pytest.mark.parametrize(("system_from", "system"), [("row", "a shop"), ("application", "a bank")])
@pytest.mark.parametrize("turns", [[ASKED, ANSWERED], [ASKED, ANSWERED, ASKED, ANSWERED]])
def test_the_setting_says_whose_system_message_is_learned_and_generated(tokenizer, system_from, system, turns):
    bank = BANK.model_copy(update={"system_from": system_from})
    ((prompt, _),) = texts(tokenizer, learn([row(RULES, *turns)], tokenizer, bank))
    assert prompt.startswith(f"<|start|>system\nYou work for {system}.<|end|>\n<|start|>user\n")
    assert prompt.count("<|start|>system") == 1
    assert ("Customer:" in prompt) == (len(turns) == 2)
    for asked in ([RULES, *turns], [RULES, *turns[:-1]]):
        (generated,) = ask([row(*asked)], tokenizer, bank)
        assert tokenizer.decode(generated) == prompt


@pytest.mark.parametrize("system_from", ["row", "application"])
def test_the_only_system_message_counts_whoever_has_it(tokenizer, system_from):
    own = Prompt(system_from=system_from)
    assert ChatTemplate(tokenizer, own).messages([RULES, ASKED]) == [RULES, ASKED]
    bank = BANK.model_copy(update={"system_from": system_from})
    assert ChatTemplate(tokenizer, bank).messages([ASKED])[0]["content"] == BANK.system


def test_the_setting_changes_no_address_where_it_is_not_given():
    assert BANK.model_dump(mode="json") == {"system": "You work for a bank.", "user": "Customer: {prompt}"}
    other = Prompt(system_from="application")
    assert Prompt.model_validate(other.model_dump(mode="json")) == other


def test_a_message_with_template_syntax_is_only_text(tokenizer):
    wild = {"role": "user", "content": "{prompt} {{ 7 * 7 }} {% raw %}"}
    assert ChatTemplate(tokenizer, BANK).messages([wild])[-1]["content"] == "Customer: {prompt} {{ 7 * 7 }} {% raw %}"


def test_the_prompt_of_training_is_the_prompt_of_inference(tokenizer):
    (example,) = learn([row(ASKED, ANSWERED)], tokenizer, BANK)
    asked = tokenizer.apply_chat_template(
        ChatTemplate(tokenizer, BANK).messages([ASKED]), add_generation_prompt=True, tokenize=True, return_dict=False
    )
    assert example.prompt == asked


def test_a_template_without_end_of_turn_still_teaches_to_stop(tokenizer):
    import copy

    silent = copy.deepcopy(tokenizer)
    silent.chat_template = "{% for m in messages %}{{ m['content'] + '\n' }}{% endfor %}"
    ((_, answer),) = texts(silent, learn([row(ASKED, ANSWERED)], silent, Prompt()))
    assert answer == "card arrival<|end|>"


def test_a_model_that_cannot_chat_is_refused(tokenizer):
    import copy

    base = copy.deepcopy(tokenizer)
    base.chat_template = None
    with pytest.raises(BadInput, match="no chat template"):
        learn([row(ASKED, ANSWERED)], base, BANK)


def test_a_template_that_writes_another_frame_once_it_is_answered_gives_that_frame_always(tokenizer):
    import copy

    counting = copy.deepcopy(tokenizer)
    counting.chat_template = "{{ messages | length }}" + tokenizer.chat_template
    (example,) = learn([row(ASKED, ANSWERED)], counting, Prompt())
    assert counting.decode(example.prompt).startswith("2<|start|>user")
    assert ask([row(ASKED)], counting, Prompt()) == [example.prompt]


STRICT = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"


@pytest.mark.parametrize("read", [learn, ask])
@pytest.mark.parametrize(
    ("prompt", "turns", "advice"),
    [
        (BANK, [ASKED, ANSWERED], "the application's system message.* set `prompt.system_in_user_turn: true`"),
        (Prompt(), [RULES, ASKED, ANSWERED], "the row's own system message.* set `prompt.system_in_user_turn: true`"),
        (BANK, [RULES, ASKED, ANSWERED], "the application's system message"),
    ],
)
def test_a_template_that_refuses_a_system_message_is_told_with_whose_it_is(tokenizer, read, prompt, turns, advice):
    import copy

    strict = copy.deepcopy(tokenizer)
    strict.chat_template = STRICT + tokenizer.chat_template
    with pytest.raises(
        BadInput,
        match=f"(dddddddddddd|one message): .*: System role not supported. .*{advice}",
    ):
        read([row(*turns)], strict, prompt)
    assert read([row(ASKED, ANSWERED)], strict, Prompt())


def test_a_template_that_refuses_turns_without_a_system_message_is_told_too(tokenizer):
    import copy

    strict = copy.deepcopy(tokenizer)
    strict.chat_template = "{{ raise_exception('Too many turns') }}"
    with pytest.raises(BadInput, match=r"Too many turns\. Choose a model whose template takes such conversations"):
        ask([row(ASKED)], strict, BANK.model_copy(update={"system": None}))
