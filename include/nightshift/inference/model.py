"""Loads a model folder for inference: safetensors only, in the fastest precision of this machine."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM, AutoTokenizer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils.logging import disable_progress_bar

from nightshift.errors import BadInput
from nightshift.settings.prompt import Prompt
from nightshift.training.chat_template import ChatTemplate
from nightshift.training.precision import fast_precision
from nightshift.training.tokens import filler

GROUPED = "nightshift_grouped"


@dataclass(frozen=True)
class LoadedModel:
    """A model for inference, on the best device of this machine."""

    model: Any
    tokenizer: Any
    end_tokens: frozenset[int]

    @property
    def pad_token(self) -> int:
        """A token to fill rows with; it is masked, so any will do."""
        return filler(self.tokenizer, self.model.get_input_embeddings().num_embeddings)


def load(folder: Path) -> LoadedModel:
    """Load a model folder (safetensors, config, tokenizer) without running any code of the model.

    :raises BadInput: the model has no embedding for the token with which its tokenizer ends a turn.
    """
    disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=fast_dtype(), use_safetensors=True)
    known, end = model.get_input_embeddings().num_embeddings, _end_of_turn(tokenizer)
    if end is not None and end >= known:
        raise BadInput(
            f"{folder.name}: its chat template ends a turn with {tokenizer.convert_ids_to_tokens(end)}, number {end} of the "
            f"tokenizer, and the model knows {known} tokens; train it with that token, or choose another template"
        )
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    if not torch.cuda.is_available() and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(GROUPED, grouped_attention)
        AttentionMaskInterface.register(GROUPED, sdpa_mask)
        model.set_attn_implementation(GROUPED)
    return LoadedModel(model, tokenizer, end_tokens(tokenizer, model.generation_config))


def end_tokens(tokenizer: Any, generation_config: Any) -> frozenset[int]:
    """Return the tokens that end an answer.

    A chat model ends its turn with its template's end token or the tokenizer's, even if its generation config lacks them.
    """
    ends = generation_config.eos_token_id
    found = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id, _end_of_turn(tokenizer)}
    return frozenset(found - {None})


def _end_of_turn(tokenizer: Any) -> int | None:
    with suppress(BadInput):  # a model that cannot chat can still be asked how likely a sentence is
        return ChatTemplate(tokenizer, Prompt()).end_id
    return None


def longest_of(config: Any) -> int:
    """Return the context length of a model: prompt and answer together, in tokens."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 1_000_000)


def fast_dtype() -> torch.dtype:
    """The fastest dtype of this machine for inference; a GPU without bf16 uses fp16, which is unsuitable for training."""
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        return torch.float16
    return torch.bfloat16 if fast_precision() == "bf16" else torch.float32


def grouped_attention(  # noqa: PLR0917  (Hugging Face's call)
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Torch's attention with grouped keys, for a CPU.

    With a mask, Transformers copies the shared keys for each query head: for one new token per row that takes nine times as
    long as the attention itself.

    :param query: batch x heads x queries x size; `key` and `value` may have fewer heads.
    :param attention_mask: batch (or 1) x 1 x queries x keys, added to the scores or true where a query may look.
    """
    if attention_mask is None or others.get("dropout") or others.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **others)
    if others.get("softcap") is not None:
        raise ValueError("this attention does not support softcap")
    attended = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=key.shape[1] != query.shape[1]
    )
    return attended.transpose(1, 2).contiguous(), None
