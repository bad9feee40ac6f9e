"""Weights leave a training for files: gathered into the memory of the first process some at a time, and written in parts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from nightshift.training.load import DTYPES
from nightshift.training.task import Task

# Elements that each process holds of what ZeRO-3 spreads, unless one parameter alone has more.
GATHERED_AT_ONCE = 2**28
LARGEST_FILE = "5GB"

Named = Sequence[tuple[str, torch.nn.Parameter]]
Weights = dict[str, torch.Tensor]


def trained_weights(model: torch.nn.Module, *, first: bool) -> Weights:
    """Return the trained weights by name, in CPU memory, on the first process; nothing on the others, which call it too."""
    return _gathered([each for each in model.named_parameters() if each[1].requires_grad], first=first)


def put_weights(model: torch.nn.Module, weights: Weights) -> None:
    """Set the trained weights of all processes to those that the first one gives; the optimiser's copies stay as they are."""
    first = dist.get_rank() == 0
    with torch.no_grad():
        for part in _parts([each for each in model.named_parameters() if each[1].requires_grad]):
            with _whole(part, changed=True):
                for name, parameter in part:
                    if first:
                        parameter.copy_(weights[name])
                    if not _is_spread(parameter):
                        dist.broadcast(parameter, 0)


def export(model: Any, tokenizer: Any, task: Task, *, first: bool) -> None:
    """Write `model` (safetensors of at most 5 GB, tokenizer, config) and `adapter` (LoRA only) on the first process.

    All processes call it. An adapter is merged into the base model as it is read from disk again, in CPU memory: in
    training its weights may be spread over the processes, or quantised.
    """
    target = task.output / "model"
    if task.training.method == "lora":
        weights = trained_weights(model, first=first)
        if first:
            model.peft_config["default"].base_model_name_or_path = task.base_model_name
            model.save_pretrained(task.output / "adapter", state_dict=weights, save_embedding_layers=False)
            _merged(task).save_pretrained(target, max_shard_size=LARGEST_FILE)
    else:
        weights = _gathered(list(model.named_parameters()), first=first)
        if first:
            kept = {name for name, _ in model.named_buffers()}
            buffers = {name: tensor for name, tensor in model.state_dict().items() if name in kept}
            model.save_pretrained(target, state_dict={**buffers, **weights}, max_shard_size=LARGEST_FILE)
    if first:
        tokenizer.save_pretrained(target)


def _merged(task: Task) -> Any:
    from peft import PeftModel

    unset_hf_deepspeed_config()  # with it ZeRO-3 would spread this model, too
    base = AutoModelForCausalLM.from_pretrained(
        task.base_model, dtype=DTYPES[task.training.precision], use_safetensors=True, trust_remote_code=False
    )
    adapted: Any = PeftModel.from_pretrained(base, task.output / "adapter", autocast_adapter_dtype=False)
    return adapted.merge_and_unload()


def _gathered(named: Named, *, first: bool) -> Weights:
    weights: Weights = {}
    for part in _parts(named):
        with _whole(part, changed=False):
            if first:
                weights |= {name: weight.detach().to("cpu", copy=_is_spread(weight)) for name, weight in part}
    return weights


def _parts(named: Named) -> Iterator[Named]:
    part: list[tuple[str, torch.nn.Parameter]] = []
    held = 0
    for name, parameter in named:
        size = getattr(parameter, "ds_numel", 0)
        if part and held + size > GATHERED_AT_ONCE:
            yield part
            part, held = [], 0
        part.append((name, parameter))
        held += size
    yield part


def _whole(named: Named, *, changed: bool) -> contextlib.AbstractContextManager[None]:
    """Within this block each process holds these parameters; with `changed`, those of the first process stay."""
    spread = [parameter for _, parameter in named if _is_spread(parameter)]
    if not spread:
        return contextlib.nullcontext()
    import deepspeed

    gathered: contextlib.AbstractContextManager[None] = deepspeed.zero.GatheredParameters(
        spread, modifier_rank=0 if changed else None
    )
    return gathered


def _is_spread(parameter: torch.nn.Parameter) -> bool:
    return hasattr(parameter, "ds_id")
