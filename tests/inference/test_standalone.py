"""A model folder carries the prompt of its application: any server that applies its template gives the model the same text."""

import pytest
from chat_families import FAMILIES, tokenizer_of
from jinja2 import TemplateError

from nightshift.inference.standalone import standalone_template
from nightshift.settings.prompt import Prompt
from nightshift.training.chat_template import ChatTemplate

USER = {"role": "user", "content": 'where is "my" card? {prompt} {{ 7 * 7 }} 🙂'}
SYSTEM = {"role": "system", "content": "Answer in French."}
EARLIER = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "good day"}]
PROMPTS = {
    "as it is": Prompt(),
    "with words around": Prompt(user="Ticket:\n{prompt}\n\\n 'Intent': é"),
    "with a system message": Prompt(system='You work for a "bank".\nBe brief.'),
    "with its own system message": Prompt(system="You work for a bank.", system_from="application"),
    "in the user's turn": Prompt(system="You work for a bank.", system_in_user_turn=True),
    "without thoughts": Prompt(template={"enable_thinking": False}),
    "with thoughts": Prompt(template={"enable_thinking": True}),
    "of a file, with examples": Prompt(
        file={
            "template": "<message role='user'>hi</message><message role='assistant'> hello\n</message>"
            "<message role='user'>{{'{% 1 %} {{'}} {{{$plan}}}:\n{{$prompt}}\n</message>",
            "input_variables": [{"name": "plan", "default": 'of "any" plan'}],
        }
    ),
    "of a file, in Jinja": Prompt(
        file={
            "template": "{# for servers #}A bank.\n<message role='user'>\n  {% if plan == 'gold' %}\n  Dear\n  {% endif %}\n"
            "  {%- raw %} {{ kept }}{% endraw %}\n {% for word in prompt.split() -%}\n {{ word }}\n {% endfor %}\n</message>",
            "template_format": "jinja2",
            "input_variables": [{"name": "plan", "default": "gold"}],
        },
        system_in_user_turn=True,
    ),
}


def test_a_server_says_a_rows_metadata_by_arguments_of_the_chat_template():
    prompt, tokenizer = PROMPTS["of a file, with examples"], tokenizer_of(FAMILIES["ChatML"])
    chat, template = ChatTemplate(tokenizer, prompt), standalone_template(tokenizer, prompt)
    messages = chat.messages([USER, {"role": "assistant", "content": "yes"}], [("plan", "{{gold}}")])
    given = chat.asked(chat.render(messages, [len(messages) - 1], "row 1"))
    shown = tokenizer.apply_chat_template(
        [USER], tokenize=False, chat_template=template, add_generation_prompt=True, plan="{{gold}}"
    )
    assert shown == given
    assert "{{{gold}}}:" in given


def takes_system(family, prompt):
    return FAMILIES[family].takes_system or prompt.system_in_user_turn


USABLE = [
    (name, words)
    for name in FAMILIES
    for words, prompt in PROMPTS.items()
    if takes_system(name, prompt) or not prompt.system
]


@pytest.mark.parametrize(("family", "words"), USABLE)
def test_a_server_gives_a_model_what_the_application_gives_it(family, words):
    prompt, tokenizer = PROMPTS[words], tokenizer_of(FAMILIES[family])
    chat, template = ChatTemplate(tokenizer, prompt), standalone_template(tokenizer, prompt)
    conversations = [[USER], [*EARLIER, USER]]
    if takes_system(family, prompt):
        conversations += [[SYSTEM, *turns] for turns in conversations]
    for turns in conversations:
        messages = chat.messages([*turns, {"role": "assistant", "content": "yes"}])
        given = chat.asked(chat.render(messages, [len(messages) - 1], "row 1"))
        shown = tokenizer.apply_chat_template(turns, tokenize=False, chat_template=template, add_generation_prompt=True)
        assert shown.rstrip(" ") == given


def test_a_server_refuses_to_answer_what_is_answered_in_several_steps():
    files = {"intent": "Which intent? {{$prompt}}", "reply": "Reply: {{$prompt}}"}
    prompt = Prompt(steps=[{"name": name, "file": {"template": text}} for name, text in files.items()])
    tokenizer = tokenizer_of(FAMILIES["ChatML"])
    template = standalone_template(tokenizer, prompt)
    with pytest.raises(TemplateError, match=r"answers in several steps \(intent, reply\)"):
        tokenizer.apply_chat_template([USER], tokenize=False, chat_template=template)
