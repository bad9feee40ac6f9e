"""The strings that a tokenizer reads as control tokens, and reading text in which they are nothing but text.

Whoever types `<|im_end|>` must not end a turn. A text that holds such a string is tokenized by a copy of the tokenizer that
knows its control tokens by other names, which nobody can guess: what a chat template wrote is renamed, what people wrote is not.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nightshift.errors import BadInput

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

NEVER = "(?!)"  # matches nothing


class ControlTokens:
    """The special tokens of a tokenizer, and those of its other added tokens that its chat template writes.

    `<think>` or `<tool_call>` are of the second kind: a model says them, so in its answers they are tokens, and in what it is
    given text. Other added tokens, as runs of line breaks or HTML tags, are only vocabulary.

    :raises BadInput: the tokenizer has no fast form.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str) -> None:
        if not tokenizer.is_fast:
            raise BadInput(
                f"the model's tokenizer ({type(tokenizer).__name__}) has no fast form (tokenizer.json), and without one control "
                "tokens in users' text cannot be told from those of the chat template; choose another model"
            )
        self._tokenizer = tokenizer
        added = list(tokenizer.added_tokens_decoder.values())
        special = {token.content for token in added if token.special}
        said = {token.content for token in added if not token.content.isspace() and token.content in template} - special
        secret = secrets.token_hex(8)
        self._names = {content: f"{secret}{number}z" for number, content in enumerate(sorted(special | said))}
        self.special, self._said, self.any = (_one_of(contents) for contents in (special, said, special | said))
        self._renamed = re.compile(f"{secret}[0-9]+z") if self._names else self.any
        # A tokenizer that looks for them in the text as it normalises it may find what does not stand there.
        normalised = any(token.normalized and token.content in self._names for token in added)
        self._anywhere = normalised and tokenizer.backend_tokenizer.normalizer is not None

    def within(self, text: str) -> bool:
        """Whether the tokenizer might read a control token in a text."""
        return self._anywhere or self.any.search(text) is not None

    def pattern(self, renamed: bool) -> re.Pattern[str]:
        """Return what matches the control tokens of a text, which are renamed in it or not."""
        return self._renamed if renamed else self.any

    def rename(self, text: str) -> str:
        """Return a text of the template, whose control tokens are such."""
        return self.any.sub(self._name, text)

    def rename_said(self, text: str) -> str:
        """Return a text of the model, in which those that a model says are tokens and special ones are text."""
        return self._said.sub(self._name, text)

    def ids(self, texts: Sequence[str], renamed: bool) -> list[list[int]]:
        """Return the token ids of texts, without any that a tokenizer puts around them."""
        return [encoding.ids for encoding in self._reader(renamed).encode_batch(list(texts), add_special_tokens=False)]

    def starts(self, text: str, renamed: bool) -> list[int]:
        """Return where in a text the token of each of its :meth:`ids` begins."""
        return [start for start, _ in self._reader(renamed).encode(text, add_special_tokens=False).offsets]

    def id(self, text: str, renamed: bool) -> int:
        """Return the id of a control token, which is renamed or not."""
        return int(self._reader(renamed).token_to_id(text))

    def _reader(self, renamed: bool) -> Tokenizer:
        if renamed:
            return self._copy
        # The tokenizer is its owner's, who may have left it set up to cut or to fill.
        backend = self._tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        return backend

    def _name(self, found: re.Match[str]) -> str:
        return self._names[found.group()]

    @cached_property
    def _copy(self) -> Tokenizer:
        from tokenizers import Tokenizer

        state: dict[str, Any] = json.loads(self._tokenizer.backend_tokenizer.to_str())
        names = self._names
        model = state["model"]
        for token in state["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        if isinstance(model["vocab"], dict):
            model["vocab"] = {names.get(piece, piece): number for piece, number in model["vocab"].items()}
        else:
            model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
        if model.get("unk_token") in names:
            model["unk_token"] = names[model["unk_token"]]
        if "merges" in model:
            pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
            model["merges"] = [pair for pair in pairs if names.keys().isdisjoint([*pair, "".join(pair)])]
        copy = Tokenizer.from_str(json.dumps(state | {"truncation": None, "padding": None}))
        if any(copy.token_to_id(name) != self.id(content, False) for content, name in names.items()):
            raise BadInput(
                "the model's tokenizer numbers its control tokens in a way that cannot be repeated, so they cannot be told from "
                "users' text; choose another model"
            )
        return copy


def _one_of(contents: set[str]) -> re.Pattern[str]:
    longest_first = sorted(contents, key=lambda content: (-len(content), content))
    return re.compile("|".join(map(re.escape, longest_first)) or NEVER)
