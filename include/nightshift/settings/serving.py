"""How vLLM uses the machine that answers: what a model of 7 or 70 billion parameters needs to be told."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from nightshift.settings.fields import Model, omit_default

# What Nightshift passes by itself, or leaves alone for a reason: code that comes with a model is never run.
OWN_ARGUMENTS = frozenset(
    {
        *("model", "tokenizer", "dtype", "generation_config", "load_format", "trust_remote_code", "seed"),
        *("tensor_parallel_size", "max_model_len", "gpu_memory_utilization", "kv_cache_memory_bytes"),
        *("enable_prefix_caching", "disable_log_stats", "skip_tokenizer_init", "runner", "data_parallel_size"),
        *("worker_cls", "worker_extension_cls", "distributed_executor_backend", "logits_processors", "scheduler_cls"),
    }
)
OF_ADAPTERS = frozenset({"enable_lora", "max_lora_rank", "lora_target_modules"})  # passed where `adapters` is true


class Vllm(Model):
    """What vLLM is told; only `adapters` is part of the address of an answer."""

    tensor_parallel: int | None = Field(
        None,
        ge=1,
        le=64,
        description="GPUs that share one copy of the model; empty: as many of the pod's as its attention heads divide by",
    )
    max_model_len: int | None = Field(
        None,
        ge=64,
        le=10_000_000,
        description="longest prompt and answer together (tokens); empty: what the model was made for and the memory holds",
    )
    # Left out where it is false, so that images of an earlier version read the settings.
    adapters: bool = omit_default(
        False, description="serve a model that was fine-tuned with LoRA as its base model with the adapter, not merged"
    )
    memory_share: float = Field(0.9, gt=0, le=1, description="share of a GPU's memory for weights, keys and values")
    arguments: dict[str, Any] = Field(
        {}, max_length=50, description="further arguments of vLLM, by their names in Python, as `quantization: fp8`"
    )

    @field_validator("arguments")
    @classmethod
    def _leaves_what_is_set(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        own = OWN_ARGUMENTS | OF_ADAPTERS if info.data.get("adapters") else OWN_ARGUMENTS
        if taken := sorted(own & set(value)):
            raise ValueError(f"{', '.join(taken)}: Nightshift sets this itself")
        return value
