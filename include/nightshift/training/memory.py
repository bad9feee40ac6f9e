"""What a training will hold in memory, estimated from the base model's config before any weight is read.

A process of a training holds, of P parameters of which T are trained, over W processes (b is 2 bytes in bf16, else 4):

| | ZeRO 0 | ZeRO 1 | ZeRO 2 | ZeRO 3 |
| --- | --- | --- | --- | --- |
| weights | b P | b P | b P | b P/W, and what a layer needs of the others' |
| gradients | b T | b T + b T/W | b T/W | b T/W |
| optimizer: fp32 weights and two moments | 12 T | 12 T/W | 12 T/W | 12 T/W |
| fp32 gradients, while a step is taken | 4 T | 4 T/W | 4 T/W | 4 T/W |

(Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", 2020, arXiv:1910.02054; and how
DeepSpeed 0.19 holds its states, in `runtime/fp16/unfused_optimizer.py` and `runtime/zero/`.) In fp32 without ZeRO the optimizer
has the two moments alone. What a pass over a batch holds beside this is counted by :mod:`step_memory`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from nightshift.errors import JobError
from nightshift.settings.training import Training
from nightshift.training.attention import attention_for
from nightshift.training.deepspeed_config import deepspeed_config
from nightshift.training.engine import row_model
from nightshift.training.frozen import LARGEST
from nightshift.training.load import DTYPES, as_trained
from nightshift.training.packing import NOT_LEARNED
from nightshift.training.step_memory import FUSED, StepMemory, counted, on_meta

# Without a GPU: the process with the libraries that it imports (0.6 GB), and what the allocator takes ahead.
RUNTIME_BYTES = 700_000_000
# Without a GPU: no batch is quite like another, so the C library's allocator often finds no hole for a block and takes more
# memory, about three times the largest block in the end; and what a pass leaves free does not serve the optimizer's fp32
# gradients. Measured: docs/training.md.
PIECES, HOLES = 1.1, 3
# With a GPU: CUDA's context, the libraries' work space, NCCL's buffers; the caching allocator's pieces. Not measured here.
GPU_RUNTIME_BYTES = 1_500_000_000
GPU_PIECES = 1.1
GPU_HOST_BYTES = 4_000_000_000
# NF4 with its scales quantised, too: 4.127 bits a weight (Dettmers et al., "QLoRA", 2023, arXiv:2305.14314, section 3).
NF4_BYTES = 4.127 / 8
# DeepSpeed's defaults: parameters that ZeRO-3 keeps because they are soon needed again, and fetches ahead.
LIVE_PARAMETERS, PREFETCHED, SUBGROUP = 10**9, 5 * 10**7, 10**9
BUCKET = 5 * 10**8
LONGEST = 131_072

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Counts:
    """Parameters of a model as it is trained.

    :param quantizable: of the frozen linear layers, which can be held in four bits.
    :param largest: of the largest single parameter.
    """

    total: int
    trained: int
    quantizable: int
    largest: int


@dataclass(frozen=True)
class Memory:
    """Bytes of one process, by part: of its GPU, or without one of the machine.

    :param activations: the most that a pass holds, or the optimizer while it takes a step, beside the other parts.
    :param host: of the machine, beside the GPU; 0 without one.
    :param export: of the machine, at the end, for the first process alone: the model that is gathered from GPUs, or the base
        model into which an adapter is merged.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    runtime: int
    host: int
    export: int

    @property
    def total(self) -> int:
        """Of the GPU, or without one of the machine."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.runtime


class PaperModel:
    """A base model of which only the config is read.

    :param base: its folder.
    :param learned: share of the tokens of a row that are learned.
    :param prefix: tokens that all examples begin with.
    :param tokens: of all training examples, without the prefix.
    """

    def __init__(self, base: Path, learned: float = 0.5, prefix: int = 0, tokens: int = 0) -> None:
        self.base = base
        self.learned = learned
        self.prefix = prefix
        self.tokens = tokens
        self._config = config = AutoConfig.from_pretrained(base, trust_remote_code=False).get_text_config()
        # Models without an entry of their own (relative positions) take any length.
        self.positions: int = getattr(config, "max_position_embeddings", None) or LONGEST
        # The same model is asked for many batch sizes.
        self._counts = cache(self._count)
        self._steps = cache(self._step)

    @property
    def parameters(self) -> int:
        """Of the base model alone."""
        return self.counts(Training(precision="fp32", engine="stock", gradient_checkpointing="none")).total

    def counts(self, training: Training) -> Counts:
        """Return the numbers of parameters."""
        return self._counts(_as_trained(training))

    def step(self, training: Training, rows: int) -> StepMemory:
        """Return what a pass over so many rows holds beside the weights."""
        return self._steps(_as_trained(training), training.sequence_length, rows)

    def memory(self, training: Training, world: int, accumulation: int, *, gpu: bool) -> Memory:
        """Return the memory of one process.

        :param training: all decided; `rows_per_batch` is what a process takes at once.
        :param world: processes on all nodes.
        :param accumulation: passes in one step.
        """
        counts, step = self.counts(training), self.step(training, training.rows_per_batch)
        memory = estimate(counts, step, training, world, accumulation, gpu=gpu)
        return replace(memory, activations=memory.activations + self._kept_states(training, world))

    def _kept_states(self, training: Training, world: int) -> int:
        """Of the layers that are not trained, where they are run once (:mod:`frozen`)."""
        places = round(self.tokens * (1 + self.prefix / training.sequence_length))
        runs_once = training.engine == "short_rows" and training.trained_layers and training.epochs > 1
        if not runs_once or world > 1 or training.zero_stage == 3 or 4 * places * self._config.hidden_size > LARGEST:
            return 0
        return DTYPES[training.precision].itemsize * places * self._config.hidden_size

    def _count(self, asked: str) -> Counts:
        training = Training.model_validate_json(asked)
        model = trained_on_meta(self.base, training, training.sequence_length)
        parameters = dict(model.named_parameters())
        linear = {
            id(module.weight)
            for module in model.get_decoder().modules()
            if isinstance(module, torch.nn.Linear) and not module.weight.requires_grad
        }
        return Counts(
            total=sum(each.numel() for each in parameters.values()),
            trained=sum(each.numel() for each in parameters.values() if each.requires_grad),
            quantizable=sum(each.numel() for each in parameters.values() if id(each) in linear),
            largest=max(each.numel() for each in parameters.values()),
        )

    def _step(self, asked: str, length: int, rows: int) -> StepMemory:
        training = Training.model_validate_json(asked)
        model = trained_on_meta(self.base, training, length)
        held = length + (0 if training.engine == "stock" else self.prefix)
        try:
            return counted(model, _loss_of(model, training, rows, held, self.learned))
        except JobError:
            raise  # training would end so, too
        except Exception as error:
            # Code that looks at values, as some that routes tokens to experts does, cannot run without any.
            log.warning(
                "what a pass through a %s model holds is taken from a formula (%s)", self._config.model_type, error
            )
            return self._by_formula(training, rows * held)

    def _by_formula(self, training: Training, tokens: int) -> StepMemory:
        """Korthikanti et al., "Reducing Activation Recomputation", 2022, arXiv:2205.05198, with fused attention: 34 bytes of each
        token, state and layer, or 2 and one layer's 34; and the logits in bf16, twice in fp32, of what is learned.
        """
        layers, again = self._config.num_hidden_layers, training.gradient_checkpointing == "full"
        states = tokens * self._config.hidden_size * (2 * layers + 34 if again else 34 * layers)
        logits = 10 * round(self.learned * tokens) * self._config.vocab_size
        return StepMemory(states + logits, states + logits, 4 * round(self.learned * tokens) * self._config.vocab_size)


def _as_trained(training: Training) -> str:
    """The settings that change the parameters or what a pass holds of them, as a key."""
    fields = {"engine", "method", "trained_layers", "precision", "gradient_checkpointing"} | {
        name for name in Training.model_fields if name.startswith(("lora_", "dora", "rslora"))
    }
    return training.model_dump_json(include=fields)


def trained_on_meta(base: Path, training: Training, length: int) -> Any:
    """Return the base model without data, with its adapter, and gradients for what is trained."""
    attention = attention_for(length) if training.engine == "short_rows" else FUSED
    model = on_meta(base, DTYPES[training.precision], FUSED if attention == "sdpa" else attention)
    with torch.device("meta"):
        return as_trained(model, training, length).train()


def _loss_of(model: Any, training: Training, rows: int, length: int, learned: float) -> Callable[[], torch.Tensor]:
    """A function that runs the engine's forward pass over so many rows."""
    engine = row_model(model, training, length)
    # What is learned is looked up on the processor, where it is known.
    labels = torch.full((rows, length), NOT_LEARNED)
    labels[:, -max(1, min(length - 1, round(learned * length))) :] = 0
    targets = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=NOT_LEARNED)
    on_meta = {"device": "meta", "dtype": torch.long}
    batch: dict[str, Any]
    if training.engine == "stock":
        ids = torch.zeros(1, rows * length, **on_meta)
        batch = {"starts": torch.zeros(rows + 1, **on_meta), "longest": length, "targets": targets.reshape(1, -1)}
    else:
        ids = torch.zeros(rows, length, **on_meta)
        batch = {"document": ids, "scored": targets != NOT_LEARNED}
    return lambda: engine.summed_loss(engine(input_ids=ids, position_ids=ids, **batch), labels)


def estimate(
    counts: Counts, step: StepMemory, training: Training, world: int, accumulation: int, *, gpu: bool
) -> Memory:
    """Return the memory of one process of so many; the arguments are those of :meth:`PaperModel.memory`."""
    each = 4 if training.precision == "fp32" else 2
    stage, share = training.zero_stage, counts.trained / (world if training.zero_stage else 1)
    frozen_in_four_bits = counts.quantizable if training.quantize != "none" else 0
    weights = each * (counts.total - frozen_in_four_bits) + NF4_BYTES * frozen_in_four_bits
    optimizer = share * (12 if stage or each == 2 else 8)
    gradients = each * {0: counts.trained, 1: counts.trained + share, 2: share, 3: share}[stage]
    stepping = 4.0 * (min(share, SUBGROUP) if stage == 3 else share) if stage or each == 2 else 0.0
    stepping += 4.0 * counts.largest if counts.trained >= counts.largest else 0.0
    passing = float(step.alone)
    if stage == 0:
        # The first of several passes begins without gradients, the others with all of them.
        passing = max(0.0, step.with_gradients - gradients) if accumulation == 1 else passing
    else:
        zero = deepspeed_config(training, accumulation)["zero_optimization"]
        bucket = int(zero.get("reduce_bucket_size", BUCKET))
        passing += each * (bucket if gpu else min(bucket, counts.trained)) * (2 if zero.get("overlap_comm") else 1)
    host = 0.0
    if stage == 3:
        live = min(counts.total, LIVE_PARAMETERS) + min(counts.total, PREFETCHED) + counts.largest
        passing += each * min(live, counts.total)
        weights /= world
    if gpu:
        host = GPU_HOST_BYTES
        if training.offload != "none":
            host, optimizer, stepping = host + optimizer + stepping + gradients, 0.0, 0.0
        if training.offload == "all":
            host, weights = host + weights, 0.0
    return Memory(
        weights=round(weights),
        gradients=round(gradients),
        optimizer=round(optimizer),
        activations=round(
            GPU_PIECES * max(passing, stepping) if gpu else PIECES * passing + HOLES * step.largest + stepping
        ),
        runtime=GPU_RUNTIME_BYTES if gpu else RUNTIME_BYTES,
        host=round(host),
        export=each * counts.total if gpu or training.method == "lora" else 0,
    )


def checkpoint_bytes(counts: Counts, training: Training) -> int:
    """Return what all processes together write into one checkpoint: what is trained, and the optimizer's states."""
    each = 4 if training.precision == "fp32" else 2
    return counts.trained * (each + (12 if training.zero_stage or each == 2 else 8))


def model_bytes(counts: Counts, training: Training) -> int:
    """Return what the finished model takes, its adapter included."""
    return counts.total * (4 if training.precision == "fp32" else 2)
