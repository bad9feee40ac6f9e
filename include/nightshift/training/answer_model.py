"""A causal language model that reads packed rows, and computes only where a token is learned what is read only there.

These are the logits, and most of the last layer: the states of the other tokens take part in its attention as keys and
values, so their queries and all that follows the attention would be thrown away.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from nightshift.errors import BadInput
from nightshift.training.packing import NOT_LEARNED, PREFIX, Packed
from nightshift.training.row_model import RowModel


class AnswerModel(RowModel):
    """Wraps a Hugging Face causal model (or its PEFT form) for rows of which a mask keeps the examples apart.

    :param length: tokens of a row, the prefix included.
    :raises BadInput: the model looks back less far than a row is long, so packed examples would not see all of themselves.
    """

    def __init__(self, model: nn.Module, length: int) -> None:
        super().__init__(model)
        window = _window(self.model.config.get_text_config())
        if window and window < length:
            raise BadInput(
                f"training.sequence_length {length} is above the model's attention window of {window} tokens"
            )
        self._scored = torch.empty(0, dtype=torch.bool)
        self._entering: torch.Tensor | None = None
        # The head is the widest matrix of a small model; it only sees the states that predict a learned token.
        # A hook keeps what a model does to its logits (scaling, soft-capping) in the model's own code.
        self.model.get_output_embeddings().register_forward_pre_hook(self._select)
        for layer in list(getattr(self.model.get_decoder(), "layers", []))[-1:]:
            for module in _read_where_scored(layer):
                module.register_forward_pre_hook(self._take_scored)
                module.register_forward_hook(self._put_back)

    def batch(self, packed: Packed, rows: Iterable[int], pad: int) -> dict[str, torch.Tensor]:
        """Return what :func:`packing.collate` does."""
        return packed.batch(rows, pad)

    def summed_loss(self, output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the summed negative log-likelihood (nats) of the learned tokens, from their logits."""
        return summed_loss(output, labels)

    def token_losses(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the negative log-likelihood (nats) of each learned token, from their logits."""
        return nn.functional.cross_entropy(output.float(), targets, reduction="none")

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        document: torch.Tensor,
        scored: torch.Tensor,
        *,
        states: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the logits (N x vocabulary) at the N scored positions, row by row.

        The arguments are those of :func:`nightshift.training.packing.collate`, and, after :meth:`enter_at`, the states
        of the rows (B x L x H).
        """
        length, device = input_ids.shape[1], document.device
        same = (document[:, :, None] == document[:, None, :]) | (document == PREFIX)[:, None, :]
        seen = same & torch.ones(length, length, dtype=torch.bool, device=device).tril()
        self._scored, self._entering = scored, states
        # Added to attention scores; it has four dimensions, so that the model takes it as it is.
        dtype = next(self.model.parameters()).dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill(~seen, torch.finfo(dtype).min)[:, None]
        return self.model(input_ids=input_ids, position_ids=position_ids, attention_mask=mask, use_cache=False).logits

    def enter_at(self, layer: nn.Module) -> None:
        """From now on `layer` gets the states that the caller gives, whatever the layers below it do."""
        layer.register_forward_pre_hook(lambda _layer, inputs: (self._entering, *inputs[1:]))

    def _select(self, _head: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0][self._scored],)

    def _take_scored(self, _module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0][self._scored][None], *inputs[1:])

    def _put_back(self, _module: nn.Module, _inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        whole = output.new_zeros(*self._scored.shape, output.shape[-1])
        whole[self._scored] = output[0]
        return whole


def summed_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the summed negative log-likelihood (nats) of the learned tokens of a batch.

    :param logits: N x vocabulary, at the scored positions.
    :param labels: B x L, not shifted; N of them are learned.
    """
    targets = labels[:, 1:]
    return nn.functional.cross_entropy(logits.float(), targets[targets != NOT_LEARNED], reduction="sum")


def _read_where_scored(layer: nn.Module) -> list[nn.Module]:
    """Return the parts of a last layer that see each token alone, and give nothing that another token looks at.

    They are known by the names that most families give them; a mixture of experts is left as it is.
    """
    attention = getattr(layer, "self_attn", None)
    parts = [getattr(attention, "q_proj", None), getattr(attention, "o_proj", None), getattr(layer, "mlp", None)]
    return [part for part in parts if isinstance(part, nn.Module) and not hasattr(part, "experts")]


def _window(config: Any) -> int | None:
    """How far back a model looks, where not every layer looks back to the start."""
    types = getattr(config, "layer_types", None)
    return getattr(config, "sliding_window", None) if types is None or "sliding_attention" in types else None
