"""Attention over examples that stand one after the other, each of which sees itself alone: no mask, memory grows with tokens.

Where FlashAttention is installed, Hugging Face's own call of it does this. Elsewhere it is torch: its variable-length
kernel on a GPU, and its fused attention example by example where that kernel cannot be used.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

from nightshift.errors import BadInput
from nightshift.settings.training import Training

VARLEN = "nightshift_varlen"
# What torch's variable-length kernel, which is FlashAttention, computes.
KERNEL_TYPES = {torch.bfloat16, torch.float16}
LARGEST_KERNEL_HEAD = 256
# An attention module may ask for these, which a fused kernel of torch does not have.
BEYOND_SDPA = {"softcap": "soft-capped scores", "s_aux": "attention sinks", "position_bias": "biases of positions"}


def attention_of(training: Training) -> str:
    """Return the name of the attention implementation that Hugging Face shall use in the stock engine.

    :raises BadInput: FlashAttention is asked for by name, and is not there or does not compute in fp32.
    """
    there = {"flash_attention_3": is_flash_attn_3_available(), "flash_attention_2": is_flash_attn_2_available()}
    usable = [name for name, found in there.items() if found and training.precision != "fp32"]
    if training.attention in there:
        if training.attention not in usable:
            raise BadInput(
                f"training.attention: {training.attention} needs a GPU, the package of it, and bf16 or fp16; "
                f"usable here: {', '.join([*usable, 'sdpa'])}"
            )
        return training.attention
    if training.attention == "auto" and usable:
        return usable[0]
    # Compiled, the loop over examples would be compiled anew for each number of them.
    loops = training.torch_compile and not torch.cuda.is_available()
    AttentionInterface.register(VARLEN, torch.compiler.disable(varlen_attention) if loops else varlen_attention)
    return VARLEN


def varlen_attention(  # noqa: PLR0917  (Hugging Face's call)
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Return the attended values (1 x tokens x heads x size), as Hugging Face models call it.

    :param query: 1 x heads x tokens x size; `key` and `value` may have fewer heads (grouped queries).
    :param sliding_window: tokens that one sees, itself included.
    :param cu_seq_lens_q: where each example begins, and at last where the last one ends.
    :raises BadInput: the model does not hand on where examples begin, or asks for more than causal attention.
    """
    if cu_seq_lens_q is None or max_length_q is None or attention_mask is not None:
        raise BadInput(
            f"{type(module).__name__} does not tell its attention where examples begin: they would see each other. "
            "Set training.engine: short_rows"
        )
    if not getattr(module, "is_causal", True):
        raise BadInput(f"{type(module).__name__} looks ahead, which training does not support")
    if asked := [what for name, what in BEYOND_SDPA.items() if more.get(name) is not None]:
        other = ", or engine: short_rows" if more.get("softcap") else ""
        raise BadInput(
            f"{type(module).__name__} needs {', '.join(asked)}, which fused attention of torch does not have: set "
            f"training.attention to a FlashAttention that is installed{other}"
        )
    window = sliding_window if sliding_window and sliding_window < max_length_q else None
    if _kernel_computes(query, value, dropout):
        attended = varlen_attn(
            *(each[0].transpose(0, 1).contiguous() for each in (query, key, value)), cu_seq_lens_q, cu_seq_lens_q,
            max_length_q, max_length_q, scale=scaling, window_size=(window - 1, 0) if window else (-1, 0),
            enable_gqa=query.shape[1] != key.shape[1],
        )  # fmt: skip
        return attended[None], None
    attended = torch.cat(
        [
            _causal(query[:, :, begin:end], key[:, :, begin:end], value[:, :, begin:end], window, dropout, scaling)
            for begin, end in pairwise(cu_seq_lens_q.tolist())
        ],
        dim=2,
    )
    return attended.transpose(1, 2), None


def _kernel_computes(query: torch.Tensor, value: torch.Tensor, dropout: float) -> bool:
    return (
        query.is_cuda
        and query.dtype in KERNEL_TYPES
        and query.shape[-1] == value.shape[-1] <= LARGEST_KERNEL_HEAD
        and not dropout
    )


def _causal(  # noqa: PLR0917
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    window: int | None,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    """Causal attention within one example; beyond a window in blocks of it, each of which sees itself and the one before."""
    grouped, length = query.shape[1] != key.shape[1], query.shape[2]
    if window is None or window >= length:
        return scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped
        )
    blocks = []
    for begin in range(0, length, window):
        end, first = min(begin + window, length), max(0, begin - window + 1)
        back = torch.arange(begin, end, device=query.device)[:, None] - torch.arange(first, end, device=query.device)
        seen, keys, values = (back >= 0) & (back < window), key[:, :, first:end], value[:, :, first:end]
        blocks.append(
            scaled_dot_product_attention(
                query[:, :, begin:end], keys, values, seen, dropout, scale=scaling, enable_gqa=grouped
            )
        )
    return torch.cat(blocks, dim=2)
