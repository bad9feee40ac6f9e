"""What one forward and backward pass holds in memory, counted without computing: the model's own code runs on the meta device.

Tensors of the meta device have shapes and no data, so a model of any size is built in seconds, and each operation tells
what it would allocate. No formula for a family of models has to be kept right, and gradient checkpointing, grouped
queries or a large vocabulary are counted as they are.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

# The stand-in of a fused attention kernel, as models ask for it by name.
FUSED = "nightshift_fused_on_meta"
# Operations to which engines give targets from the processor, where it is looked up what is learned.
TAKE_META_ALONE = {torch.ops.aten.nll_loss_forward.default, torch.ops.aten.nll_loss_backward.default}


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a pass needs beside the weights.

    :param alone: most at any time, without the gradients of weights.
    :param with_gradients: most at any time, with the gradients that are there by then; they begin with none.
    :param largest: the largest single block.
    """

    alone: int
    with_gradients: int
    largest: int = 0


class _Live(TorchDispatchMode):
    """Adds up the storages that are alive, and keeps the largest sum."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._sizes: dict[int, int] = {}
        self._known = {tensor.untyped_storage()._cdata for tensor in [*model.parameters(), *model.buffers()]}
        self._now, self._gradients = 0, 0
        self.alone, self.with_gradients, self.largest = 0, 0, 0
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(self._is_gradient)
            for parameter in model.parameters()
            if parameter.requires_grad
        ]

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in TAKE_META_ALONE:
            args = tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), args)
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "meta":
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self._sizes[key] = storage.nbytes()
        self._now += storage.nbytes()
        self.largest = max(self.largest, storage.nbytes())
        weakref.finalize(storage, self._free, key)
        self._keep_largest()

    def _free(self, key: int) -> None:
        self._known.discard(key)
        self._now -= self._sizes.pop(key, 0)

    def _is_gradient(self, parameter: torch.Tensor) -> None:
        """Move a gradient that just became one from what a pass holds for itself to the gradients."""
        assert parameter.grad is not None  # noqa: S101
        size = self._sizes.pop(parameter.grad.untyped_storage()._cdata, 0)
        self._now -= size
        self._gradients += size
        self._keep_largest()

    def _keep_largest(self) -> None:
        self.alone = max(self.alone, self._now)
        self.with_gradients = max(self.with_gradients, self._now + self._gradients)

    def __exit__(self, *arguments: Any) -> None:
        super().__exit__(*arguments)
        for hook in self._hooks:
            hook.remove()


def counted(model: nn.Module, loss: Callable[[], torch.Tensor]) -> StepMemory:
    """Return what computing a loss and its gradients holds.

    :param model: on the meta device, ready for training.
    :param loss: runs the model forward.
    """
    with _Live(model) as live:
        loss().backward()
    for parameter in model.parameters():
        parameter.grad = None
    return StepMemory(live.alone, live.with_gradients, live.largest)


def on_meta(base: Path, dtype: torch.dtype, attention: str = FUSED) -> Any:
    """Return a base model without data, as its config says.

    :param base: folder with a `config.json`; weights are not read.
    :param attention: name of an implementation; by default the stand-in of fused kernels.
    """
    from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

    AttentionInterface.register(FUSED, fused_attention)
    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)


class _Fused(torch.autograd.Function):
    """Holds what the fused kernels hold for their backward pass: inputs, output, and a number for each query and head."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *_gradients: torch.Tensor) -> Any:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


def fused_attention(
    _module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_unused: Any, **_ignored: Any
) -> tuple[torch.Tensor, None]:
    """Return attended values of the right shape (batch x queries x heads x size), as Hugging Face models call it.

    FlashAttention (Dao et al., 2022, arXiv:2205.14135) keeps no scores, and takes grouped queries as they are.
    """
    attended: torch.Tensor = _Fused.apply(query, key, value)
    return attended.transpose(1, 2).contiguous(), None
