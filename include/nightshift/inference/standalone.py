"""A model folder with the application's prompt and decoding built in, so that any server gives the application's answers.

Servers of chat models (MLflow's, vLLM, TGI) read `chat_template` and `generation_config.json`. Settings that these cannot
express (`Decoding.left_to_servers`) must be set on the server.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from nightshift.errors import BadInput
from nightshift.inference.model import end_tokens
from nightshift.settings.application import Application
from nightshift.settings.decoding import Decoding
from nightshift.settings.prompt import Prompt
from nightshift.settings.prompt_template import environment, literal
from nightshift.training.chat_template import ChatTemplate, with_fixed_date

IN_STEPS = (
    "this version answers in several steps ({}), which a chat template cannot do; Nightshift's batch inference does"
)
# `turns` are the messages after the system message, as in `application_messages` of training/chat_template.py.
ROW_SYSTEM = """\
{%- set system = messages[0]['content'] if messages and messages[0]['role'] == 'system' else '' -%}
{%- set turns = messages[1:] if messages and messages[0]['role'] == 'system' else messages -%}
"""
SINGLE_TURN = """\
{%- if turns | selectattr('role', 'equalto', 'user') | list | length == 1 and turns[0]['content'] is string -%}
{%- set turns = [dict(turns[0], content=ASKED)] + turns[1:] -%}
{%- endif -%}
"""
SYSTEM_FIRST = "{%- set messages = ([{'role': 'system', 'content': system}] if system else []) + turns %}"
SYSTEM_IN_USER_TURN = """\
{%- if system and turns[0]['content'] is string -%}
{%- set turns = [dict(turns[0], content=system ~ '\\n\\n' ~ turns[0]['content'])] + turns[1:] -%}
{%- endif -%}
{%- set messages = turns %}"""


def standalone_copy(folder: Path, target: Path, application: Application) -> Path:
    """Return `target`, a copy of a model folder with the application's prompt and decoding; its weights are links.

    :raises BadInput: the model's chat template is unusable.
    """
    from transformers import AutoTokenizer, GenerationConfig

    target.mkdir(parents=True)
    for path in folder.iterdir():
        if path.suffix == ".safetensors":
            (target / path.name).symlink_to(path.resolve())
        elif path.is_file():
            shutil.copy(path, target)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ends = sorted(end_tokens(tokenizer, GenerationConfig.from_pretrained(folder)))
    tokenizer.chat_template = standalone_template(tokenizer, application.prompt)
    tokenizer.save_pretrained(target)
    GenerationConfig(
        eos_token_id=ends,
        pad_token_id=ends[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        max_new_tokens=application.inference.max_new_tokens,
        **_sampling(application.decoding),
    ).save_pretrained(target)
    return target


def standalone_template(tokenizer: Any, prompt: Prompt) -> str:
    """Return the tokenizer's chat template, extended to write messages as :class:`ChatTemplate` does with this prompt.

    For a prompt in steps, which a template cannot express, it refuses every conversation with a message.

    :raises BadInput: the template is unusable, or begins an answer in a way that cannot be appended.
    """
    if prompt.steps:
        names = ", ".join(step.name for step in prompt.steps)
        return f"{{{{ raise_exception({literal(IN_STEPS.format(names))}) }}}}"
    chat = ChatTemplate(tokenizer, prompt)
    arguments = "".join(f"{{%- set {name} = {literal(value)} -%}}\n" for name, value in prompt.template.items())
    macros, own, examples, asked = _in_jinja(prompt)
    first, second = ("system", own) if prompt.system_from == "row" else (own, "system")
    written = "".join(
        [
            arguments,
            macros,
            ROW_SYSTEM,
            f"{{%- set system = {first} or {second} -%}}\n",
            SINGLE_TURN.replace("ASKED", asked),
            examples,
            SYSTEM_IN_USER_TURN if prompt.system_in_user_turn else SYSTEM_FIRST,
            with_fixed_date(tokenizer.get_chat_template()).removesuffix("\n"),
        ]
    )
    # An answer begins as in rendered conversations, which may differ from the generation prompt.
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "yes"}]
    messages = chat.messages(turns)
    given = chat.asked(chat.render(messages, [len(messages) - 1], "a conversation of one message"))
    for asks in (True, False):
        shown = tokenizer.apply_chat_template(
            turns[:1], tokenize=False, chat_template=written, add_generation_prompt=asks
        ).rstrip(" ")
        if given.startswith(shown):
            rest = literal(given[len(shown) :])
            keep = "" if asks else "{%- set asked, add_generation_prompt = add_generation_prompt, false -%}\n"
            name = "add_generation_prompt" if asks else "asked"
            return f"{keep}{written}{{% if {name} %}}{{{{ {rest} }}}}{{% endif %}}"
    raise BadInput(f"the model's chat template ends a prompt with {shown!r}, but writes {given!r} before an answer")


def _sampling(decoding: Decoding) -> dict[str, Any]:
    drawn = {"do_sample": True, "temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
    return {
        **(drawn if decoding.temperature else {"do_sample": False}),
        "repetition_penalty": decoding.repetition_penalty,
    }


def _in_jinja(prompt: Prompt) -> tuple[str, str, str, str]:
    """A prompt in the language of chat templates: macros, and with these its system message, its examples (a statement),
    and the user's message.

    Servers take a row's metadata as arguments of the chat template (`chat_template_kwargs`), by the variables' names.
    """
    text = "turns[0]['content']"
    if (file := prompt.answering) is None:
        return "", literal(prompt.system or ""), "", f"{literal(prompt.user)} | replace('{{prompt}}', {text})"
    variables = file.variables
    given = "".join(f", {name} | default({literal(default)}, true)" for name, default in variables.items())
    macros, calls = "", []
    for number, turn in enumerate(file.turns):
        macros += f"{{%- macro turn_{number}({', '.join(['prompt', *variables])}) +%}}{_as_it_is(turn.jinja)}{{%+ endmacro -%}}\n"
        content = f"turn_{number}({text if turn is file.turns[-1] else literal('')}{given})"
        calls.append((turn.role, f"{content} | trim" if turn.bare else content))
    own = calls.pop(0)[1] if calls[0][0] == "system" else literal("")
    *before, (_, asked) = calls
    shown = ", ".join(f"{{'role': {literal(role)}, 'content': {content}}}" for role, content in before)
    return macros, own, f"{{%- set turns = [{shown}] + turns -%}}\n" if shown else "", asked


def _as_it_is(template: str) -> str:
    """A Jinja template that keeps its line breaks: chat templates drop those after blocks, and spaces before blocks."""
    kept = {("block_begin", "{%"): "{%+", ("block_end", "%}"): "+%}"}
    return "".join(kept.get((kind, value), value) for _, kind, value in environment().lex(template))
