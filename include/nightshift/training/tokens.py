"""Examples as the model sees them: token ids by the model's own chat template, and which of them are learned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nightshift.errors import BadInput
from nightshift.settings.application import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TokenizedExample:
    """Token ids of what is given and of what is learned: the last answer with its end-of-turn token."""

    prompt: list[int]
    answer: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def conversation(prompt: Prompt, turns: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return the chat messages for the `turns` of a row, in the application's words.

    One system message stands first: the row's or the application's, as `prompt.system_from` says. A single user turn goes
    through the application's template; the turns of a longer conversation are as they were.
    """
    messages = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    own = messages.pop(0)["content"] if messages[0]["role"] == "system" else None
    if [message["role"] for message in messages] in (["user"], ["user", "assistant"]):
        messages[0]["content"] = prompt.asked(messages[0]["content"])
    return [*prompt.system_messages(own), *messages]


def rendered(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, row: Mapping[str, Any], turns: Sequence[Mapping[str, str]]
) -> str:
    """Return the text that the model is given for the `turns` of a row, or, where they end with an answer, learns from.

    :raises BadInput: the chat template refuses them.
    """
    from jinja2 import TemplateError

    messages = conversation(prompt, turns)
    asked = messages[-1]["role"] != "assistant"
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asked))
    except TemplateError as error:
        raise BadInput(
            f"example {str(row.get('digest', ''))[:12]}: the model's chat template refuses the conversation: {error}. "
            f"{_remedy(prompt, messages)}"
        ) from error


def _remedy(prompt: Prompt, messages: Sequence[Mapping[str, str]]) -> str:
    if messages[0]["role"] != "system":
        return "Choose a model whose template takes such conversations, or leave them out of the source"
    if messages[0]["content"] == prompt.system:
        return (
            "It begins with the application's system message; if the template takes none, leave out `prompt.system` "
            "or choose another model"
        )
    return (
        "It begins with the row's own system message; if the template takes none, read rows without one (no `system` in "
        "the source's `columns`, none in its conversations) or choose another model"
    )


def tokenize(
    rows: Iterable[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, prompt: Prompt
) -> list[TokenizedExample]:
    """Return the rows of an examples table (`messages` ends with the answer) as tokens, in order.

    Prompt and answer are tokenized apart, because at inference the model is given exactly the prompt's tokens.

    :raises BadInput: the model has no chat template, one that refuses a row, or one that cannot be split before the answer.
    """
    if not tokenizer.chat_template:
        raise BadInput("the base model's tokenizer has no chat template; choose an instruction-tuned model")
    given, learned = [], []
    for row in rows:
        turns = row["messages"]
        if turns[-1]["role"] != "assistant":
            raise BadInput(f"example {row['digest'][:12]} does not end with an answer")
        start = rendered(tokenizer, prompt, row, turns[:-1])
        whole = rendered(tokenizer, prompt, row, turns)
        if not whole.startswith(start):
            raise BadInput(
                f"example {row['digest'][:12]}: the chat template renders a conversation with its answer differently "
                "from the prompt before it, so it cannot tell what to learn; choose a model with a simpler template"
            )
        given.append(start)
        # What a template writes after the end-of-turn token is the separator of turns: never generated, not learned.
        learned.append(whole[len(start) :].rstrip())
    if not given:
        return []
    end = set(tokenizer.all_special_ids)
    return [
        TokenizedExample(before, after if after and after[-1] in end else [*after, tokenizer.eos_token_id])
        for before, after in zip(_ids(tokenizer, given), _ids(tokenizer, learned), strict=True)
    ]


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    return list(tokenizer(texts, add_special_tokens=False)["input_ids"])
