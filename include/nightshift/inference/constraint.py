"""Answers of a form that the application asks for: at each step llguidance says which tokens keep to it.

vLLM uses the same library here, so both engines take the same schemas and regular expressions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nightshift.errors import BadInput
from nightshift.settings.decoding import Decoding

if TYPE_CHECKING:
    from llguidance import LLMatcher


def answer_matcher(decoding: Decoding, tokenizer: Any, ends: Iterable[int], vocabulary: int) -> LLMatcher:
    """Return a matcher at the start of an answer; each answer needs a deep copy of it.

    :param ends: tokens that may end an answer once it has its form.
    :param vocabulary: how many logits the model gives for a token; the tokenizer may have more tokens.
    :raises BadInput: the form, or the tokenizer, is none that llguidance can follow.
    """
    from llguidance import LLMatcher
    from llguidance.hf import from_tokenizer

    try:
        tokens = from_tokenizer(tokenizer, n_vocab=max(vocabulary, len(tokenizer)), eos_token=sorted(ends))
    except ValueError as error:
        raise BadInput(f"decoding.{decoding.constraint} cannot be kept with this model's tokenizer: {error}") from error
    if decoding.json_schema is not None:
        # Small models fill an answer with blank lines where JSON allows them.
        grammar = LLMatcher.grammar_from_json_schema(decoding.json_schema, defaults={"whitespace_flexible": False})
    else:
        grammar = LLMatcher.grammar_from_regex(str(decoding.regex))
    matcher = LLMatcher(tokens, grammar, log_level=0)
    if matcher.is_error():
        raise BadInput(f"decoding.{decoding.constraint} cannot be kept: {matcher.get_error()}")
    return matcher


def allowed(logits: torch.Tensor, matchers: Sequence[LLMatcher], tokens: int) -> torch.Tensor:
    """Return the logits (rows x vocabulary) with -inf for each token that would break the form of its row's answer.

    :param tokens: how many the matchers know, at least as many as there are logits.
    """
    from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

    rows, vocabulary = logits.shape
    bits = allocate_token_bitmask(rows, tokens)
    for row, matcher in enumerate(matchers):
        fill_next_token_bitmask(matcher, bits, row)
    allows = np.unpackbits(bits.view(np.uint8), axis=1, count=vocabulary, bitorder="little")
    return logits.masked_fill(torch.from_numpy(allows == 0).to(logits.device), float("-inf"))
