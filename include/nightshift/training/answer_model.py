"""A causal language model that reads packed rows, and computes only where a token is learned what is read only there.

These are the logits, and most of the last layer: the states of the other tokens take part in its attention as keys and
values, so their queries and all that follows the attention would be thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from nightshift.errors import BadInput
from nightshift.training.packing import NOT_LEARNED, PREFIX

ATTENTION_LAYERS = {"full_attention", "sliding_attention"}


class AnswerModel(nn.Module):
    """Wraps a Hugging Face causal model (or its PEFT form), so that one forward pass is one call of DeepSpeed's engine.

    :raises BadInput: the model mixes neighbouring tokens by more than masked attention (state-space layers), or looks
        back less far than a row is long: packed examples would see each other or not all of themselves.
    """

    def __init__(self, model: nn.Module, length: int) -> None:
        super().__init__()
        _check_can_pack(model.config.get_text_config(), length)
        self.model = model
        self._scored = torch.empty(0, dtype=torch.bool)
        self._entering: torch.Tensor | None = None
        # The head is the widest matrix of a small model; it only sees the states that predict a learned token.
        # A hook keeps what a model does to its logits (scaling, soft-capping) in the model's own code.
        self.model.get_output_embeddings().register_forward_pre_hook(self._select)
        for module in _read_where_scored(self.model.get_decoder().layers[-1]):
            module.register_forward_pre_hook(self._take_scored)
            module.register_forward_hook(self._put_back)

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

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load the weights of a checkpoint, which need not hold those that are not trained, and may hold others of them.

        Frozen layers are taken out where one process trains (:mod:`frozen`), and are there where several do.
        """
        known = self.state_dict().keys()
        result = super().load_state_dict(
            {name: tensor for name, tensor in state_dict.items() if name in known}, strict=False, assign=assign
        )
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        if strict and (missing := trained.intersection(result.missing_keys)):
            raise BadInput(f"the checkpoint has no weights for {', '.join(sorted(missing))}")
        return result

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


def _check_can_pack(config: Any, length: int) -> None:
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    if other := layers - ATTENTION_LAYERS:
        raise BadInput(
            f"a {config.model_type} model has layers of type {', '.join(sorted(other))}, through which packed examples "
            "would see each other; choose a model of attention layers only"
        )
    if "sliding_attention" in layers and config.sliding_window < length:
        raise BadInput(
            f"training.sequence_length {length} is above the model's attention window of {config.sliding_window} tokens"
        )
