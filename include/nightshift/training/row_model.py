"""What an engine is: a module that reads packed rows, so that one forward pass is one call of DeepSpeed's engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from nightshift.errors import BadInput
from nightshift.training.packing import Packed

ATTENTION_LAYERS = {"full_attention", "sliding_attention"}


class RowModel(nn.Module, ABC):
    """Wraps a Hugging Face causal model, or its PEFT form.

    :raises BadInput: the model mixes neighbouring tokens by more than attention (state-space layers) or by attention
        within chunks: packed examples would see each other or not all of themselves.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        config: Any = model.config
        layers = set(getattr(config.get_text_config(), "layer_types", None) or ["full_attention"])
        if other := layers - ATTENTION_LAYERS:
            raise BadInput(
                f"a {config.model_type} model has layers of type {', '.join(sorted(other))}, through which packed examples "
                "would see each other; choose a model of attention layers only"
            )
        self.model: Any = model

    @abstractmethod
    def batch(self, packed: Packed, rows: Iterable[int], pad: int) -> dict[str, Any]:
        """Return the arguments of a forward pass over some rows, by number, and their `labels`."""

    @abstractmethod
    def summed_loss(self, output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the summed negative log-likelihood (nats) of the learned tokens, of what a forward pass gave."""

    @abstractmethod
    def token_losses(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the negative log-likelihood (nats) of each learned token, of what a forward pass gave.

        :param targets: the learned tokens, row after row.
        """

    def check(self, engine: nn.Module) -> None:
        """Find out before the first step whether the model can be trained in this way; `engine` is this as DeepSpeed calls it.

        :raises BadInput: it cannot.
        """

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
