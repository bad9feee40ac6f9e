"""Loads the base model of a training by its settings: precision, attention, adapter, trained layers."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from nightshift.errors import BadInput
from nightshift.settings.training import Training
from nightshift.training.attention import attention_for
from nightshift.training.varlen_attention import attention_of

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def load_model(folder: Path, training: Training, length: int) -> Any:
    """Return the base model in the precision of the training; what is not trained needs no gradient.

    :param training: its engine and precision are decided.
    :param length: tokens of a row.
    :raises BadInput: the model has fewer layers than shall be trained, or none that can be told apart; its positions end
        before a row does; or a package is missing.
    """
    stock, dtype = training.engine == "stock", DTYPES[training.precision]
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation=attention_of(training) if stock else attention_for(length),
        use_safetensors=True,
        trust_remote_code=False,
        **_quantized(training, dtype),
    )
    return as_trained(model, training, length)


def as_trained(model: Any, training: Training, length: int) -> Any:
    """Return a model with its adapter, without gradients for what is not trained; the arguments and errors are as above."""
    config = model.config.get_text_config()
    if not hasattr(config, "rope_parameters") and length > getattr(config, "max_position_embeddings", length):
        raise BadInput(
            f"training.sequence_length is {length}, but {config.model_type} learned {config.max_position_embeddings} positions"
        )
    layers = getattr(model.get_decoder(), "layers", torch.nn.ModuleList())
    if training.trained_layers > len(layers):
        raise BadInput(
            f"training.trained_layers is {training.trained_layers}, but {config.model_type} has {len(layers)} layers"
        )
    if training.gradient_checkpointing == "full":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if training.torch_compile:
        for layer in layers:
            layer.compile(dynamic=True)
    if training.method == "lora":
        return _with_adapter(model, layers, training)
    if training.trained_layers:
        model.requires_grad_(False)
        layers[-training.trained_layers :].requires_grad_(True)
    return model


def _quantized(training: Training, dtype: torch.dtype) -> dict[str, Any]:
    if training.quantize == "none":
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BadInput(
            f"training.quantize: {training.quantize} needs the package bitsandbytes, which is not installed here"
        )
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=training.quantize,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        # Of the type in which ZeRO-3 shares the other parameters, so that it can share these, too.
        bnb_4bit_quant_storage=dtype,
    )
    device = f"cuda:{os.environ['LOCAL_RANK']}" if torch.cuda.is_available() else "cpu"
    return {"quantization_config": quantization, "device_map": {"": device}}


def _with_adapter(model: Any, layers: torch.nn.ModuleList, training: Training) -> Any:
    from peft import LoraConfig, get_peft_model

    targets: list[str] | str = training.lora_targets or "all-linear"
    if training.trained_layers:
        inside = {module for layer in layers[-training.trained_layers :] for module in layer.modules()}
        targets = [
            name
            for name, module in model.named_modules()
            if module in inside
            and isinstance(module, torch.nn.Linear)
            and (not training.lora_targets or name.rpartition(".")[2] in training.lora_targets)
        ]
    adapter = LoraConfig(
        task_type="CAUSAL_LM",
        r=training.lora_rank,
        lora_alpha=training.lora_alpha or 2 * training.lora_rank,
        lora_dropout=training.lora_dropout,
        use_rslora=training.rslora,
        use_dora=training.dora,
        target_modules=targets,
    )
    try:
        adapted = get_peft_model(model, adapter, autocast_adapter_dtype=False)
    except ValueError as error:
        raise BadInput(f"training.lora_targets: {error}") from error
    # Merged into the one weight of both, an adapter to either would change the other as well.
    both = adapted.get_input_embeddings(), adapted.get_output_embeddings()
    if model.config.get_text_config().tie_word_embeddings and any(hasattr(one, "base_layer") for one in both):
        raise BadInput(
            "training.lora_targets: the embeddings and the head of this model share their weight, so an adapter to one "
            "of them cannot be merged; leave them out"
        )
    return adapted
