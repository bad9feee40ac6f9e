"""The plan of a training as text: sizes, steps, memory by part, and the reason for each automatic setting."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict

from nightshift.settings.training import LEARNED_FROM
from nightshift.training.attention import attention_for
from nightshift.training.checkpoints import KEPT
from nightshift.training.decide import Decided, gb
from nightshift.training.layout import Layout
from nightshift.training.machine import Machine
from nightshift.training.memory import checkpoint_bytes, model_bytes
from nightshift.training.packing import Packed
from nightshift.training.token_files import Examples, TokenFiles
from nightshift.training.varlen_attention import attention_of

SETTINGS = (
    "engine", "method", "learning_rate", "zero_stage", "offload", "gradient_checkpointing", "precision", "sequence_length",
    "rows_per_step", "rows_per_batch",
)  # fmt: skip


def lines(decided: Decided, tokens: TokenFiles, machine: Machine, layout: Layout, *, base_model: str) -> list[str]:
    """Return what would be trained, where, and whether it fits.

    :param base_model: what the user called it.
    """
    counts = decided.counts
    return [
        f"base model             {base_model}: {counts.total:,} parameters, {counts.trained:,} of them trained",
        f"processes              {layout.world}, on {layout.nodes} node{'s' * (layout.nodes > 1)}; {_has(machine)}",
        "",
        *_settings(decided),
        "",
        *_steps(decided, tokens),
        "",
        *_memory(decided, machine, layout),
        "",
        f"DOES NOT FIT: {decided.missing}" if decided.missing else "fits",
    ]


def _has(machine: Machine) -> str:
    gpu = f"{machine.gpu} with {gb(machine.gpu_bytes)}" if machine.gpu else "no GPU"
    return f"{gpu}; {gb(machine.host_bytes)} of memory and {gb(machine.disk_bytes)} of disk for the job"


def _settings(decided: Decided) -> Iterator[str]:
    training = decided.training
    for name in SETTINGS:
        value = getattr(training, name)
        why = f" ({decided.reasons[name]})" if name in decided.reasons else ""
        yield f"{name:<22} {f'{value:g}' if isinstance(value, float) else value}{why}"
    length = training.sequence_length + decided.prefix
    yield f"{'attention':<22} {attention_of(training) if training.engine == 'stock' else attention_for(length)}"


def _steps(decided: Decided, tokens: TokenFiles) -> Iterator[str]:
    training, examples = decided.training, Examples(tokens.train)
    packed = Packed.of(examples, tokens.prefix, training, shared=training.engine != "stock")
    rows = max(1, round(len(packed) * training.epochs)) if len(packed) else 0
    read = int(packed.tokens.sum()) if rows else 0
    count, what = len(examples) // training.together, LEARNED_FROM[training.recipe]
    too_long = packed.packing.too_long / count
    yield f"{what:<22} {count:,}; {too_long:.1%} of them do not fit into a row"
    once = f", each begins with the {decided.prefix} tokens that all examples share" if decided.prefix else ""
    yield f"rows                   {len(packed):,}{once}"
    yield f"steps                  {math.ceil(rows / training.rows_per_step):,}, for {training.epochs:g} passes over the rows"
    yield f"tokens                 {read * training.epochs:,.0f}"


def _memory(decided: Decided, machine: Machine, layout: Layout) -> Iterator[str]:
    memory, training = decided.memory, decided.training
    for name, count in asdict(memory).items():
        if name not in {"host", "export"}:
            yield f"{name:<22} {gb(count)}"
    on_node = layout.processes * (memory.host if machine.gpu else memory.total) + memory.export
    if machine.gpu:
        yield f"{'GPU of a process':<22} {gb(memory.total)} of {gb(machine.gpu_bytes)}"
    else:
        yield f"{'memory of a process':<22} {gb(memory.total)}"
    yield f"{'memory of a node':<22} {gb(on_node)} of {gb(machine.host_bytes)}, with {gb(memory.export)} for the finished model"
    saved = checkpoint_bytes(decided.counts, training)
    yield (
        f"{'checkpoints':<22} {gb(saved)} each; one on this disk, up to {KEPT + 1} in storage, and the model of "
        f"{gb(model_bytes(decided.counts, training))}"
    )
