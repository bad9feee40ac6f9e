"""GPU utilization of a step: memory, tokens per second, and model FLOPs utilization (MFU)."""

from __future__ import annotations

import re
from typing import Any

import torch

# Dense bf16 and fp16 products with sums in fp32, FLOP/s, from the makers' data sheets: by words of the device's name.
PEAKS: dict[tuple[str, ...], float] = {
    ("B200",): 2.25e15,
    ("H100", "PCIe"): 7.56e14,
    ("H100", "NVL"): 8.35e14,
    ("H100",): 9.89e14,
    ("H200",): 9.89e14,
    ("A100",): 3.12e14,
    ("L40S",): 3.62e14,
    ("L4",): 1.21e14,
    ("A10G",): 7.0e13,
}


def gpu_numbers(model: Any, tokens: int, squares: int, seconds: float, world: int) -> dict[str, float]:
    """Return the numbers of a step of `world` processes with a GPU each; nothing without a GPU.

    `gpu_memory_gb` is the most that this process had allocated so far, `tokens_per_second_per_gpu` counts as
    `tokens_per_second` does. `mfu` is left out for a GPU whose peak is not known here, in fp32, and for mixtures of experts.

    :param tokens: of the step's examples, on all processes.
    :param squares: the squares of the examples' lengths, added up.
    """
    if not torch.cuda.is_available():
        return {}
    numbers = {
        "gpu_memory_gb": torch.cuda.max_memory_allocated() / 1e9,
        "tokens_per_second_per_gpu": tokens / seconds / world,
    }
    peak, needed = peak_of(torch.cuda.get_device_name()), model_flops(model, tokens, squares)
    if peak and needed and model.dtype in {torch.bfloat16, torch.float16}:
        numbers["mfu"] = needed / seconds / world / peak
    return numbers


def peak_of(name: str) -> float | None:
    """Return the peak of a GPU (FLOP/s) by its name; None where it is not known."""
    words = set(re.split(r"[\s-]+", name))
    return next((peak for some, peak in PEAKS.items() if words.issuperset(some)), None)


def model_flops(model: Any, tokens: int, squares: int) -> int | None:
    """Return the operations that training on some examples needs: no recomputation, no optimiser; None for experts.

    Two for each weight and token forward, two for the gradient of what enters it, two more where it is trained itself;
    and for causal attention six for each pair of a token and one before it, and each number of all its heads.
    """
    config = model.config.get_text_config()
    if any(getattr(config, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts")):
        return None
    looked_up = model.get_input_embeddings().weight
    tied = looked_up is model.get_output_embeddings().weight
    sizes = [
        (getattr(weight, "ds_numel", weight.numel()), weight.requires_grad)
        for weight in model.parameters()
        if tied or weight is not looked_up
    ]
    weights = sum((6 if trained else 4) * size for size, trained in sizes)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return tokens * weights + 6 * squares * config.num_hidden_layers * config.num_attention_heads * head
