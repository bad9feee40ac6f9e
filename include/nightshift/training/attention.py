"""Attention for short packed rows on a CPU: two batched products and a softmax.

Torch's fused CPU kernel is made for long sequences: forward and backward over rows of 128 tokens take it three times
as long. The scores of a whole batch are kept here, so it is for rows up to `LONGEST_ROW` tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from nightshift.errors import BadInput

SHORT_ROWS = "nightshift_short_rows"
LONGEST_ROW = 512


def attention_for(length: int) -> str:
    """Return the name of the attention implementation for rows of `length` tokens on this machine."""
    if torch.cuda.is_available() or length > LONGEST_ROW:
        return "sdpa"
    AttentionInterface.register(SHORT_ROWS, short_rows_attention)
    AttentionMaskInterface.register(SHORT_ROWS, eager_mask)
    return SHORT_ROWS


def short_rows_attention(  # noqa: PLR0917  (Hugging Face's call)
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **_ignored: Any,
) -> tuple[torch.Tensor, None]:
    """Return the attended values (batch x queries x heads x size), as Hugging Face models call it.

    :param query: batch x heads x queries x size; `key` and `value` may have fewer heads (grouped queries).
    :param attention_mask: batch x 1 x queries x keys, added to the scores.
    :raises BadInput: the model has attention sinks.
    """
    if s_aux is not None:
        raise BadInput(
            f"{type(module).__name__} needs attention sinks, which the engine for short rows does not compute"
        )
    batch, heads, queries, size = query.shape
    groups, keys = key.shape[1], key.shape[2]
    # Queries that share a key head stand below each other, so that keys are not copied for each of them.
    scores = (query * scaling).reshape(batch, groups, -1, size) @ key.transpose(2, 3)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    masked = scores.view(batch, groups, heads // groups, queries, keys) + attention_mask[:, :, None]
    weights = masked.softmax(dim=-1).view(batch, groups, -1, keys)
    return (weights @ value).view(batch, heads, queries, size).transpose(1, 2), None
