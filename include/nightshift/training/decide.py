"""What `training:` leaves open, decided by the size of the model, the data, and the memory of the machine.

The same settings, data and kind of machine give the same decisions. An attempt that goes on from a checkpoint takes over
what was decided for it (:data:`LEARNED_WITH`), whatever machine it finds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nightshift.settings.training import Training, TrainingSettings
from nightshift.training.engine import engine_for
from nightshift.training.layout import check_shares, rows_at_once
from nightshift.training.machine import Machine
from nightshift.training.memory import Counts, Memory, PaperModel, checkpoint_bytes, estimate, model_bytes
from nightshift.training.step_memory import StepMemory
from nightshift.training.token_files import Examples, TokenFiles

# What comes out depends on these: a checkpoint holds what was decided for them.
LEARNED_WITH = ("engine", "method", "learning_rate", "sequence_length", "rows_per_step", "zero_stage")

# Peak learning rates for models of up to so many parameters, all weights trained. 2e-5 for 7B, 1e-5 above 13B: Taori et al.,
# "Stanford Alpaca", 2023; Ivison et al., "Tülu 2", 2023, arXiv:2311.10702. Small models take more (docs/training.md).
LEARNING_RATES = ((1e9, 2e-4), (4e9, 5e-5), (14e9, 2e-5), (math.inf, 1e-5))
# Adapters learn best at about ten times that (Schulman et al., "LoRA Without Regret", Thinking Machines, 2025), which is the
# 2e-4 for 7B and 13B, and 1e-4 above, of Dettmers et al., "QLoRA", 2023, arXiv:2305.14314.
LORA_TIMES = 10
# DPO and KTO take much less: 5e-7 for 7B (Tunstall et al., "Zephyr", 2023, arXiv:2310.16944; Tülu 2), 5e-6 with an adapter (their
# alignment-handbook); 5e-7 to 5e-6 for KTO (Ethayarajh et al., 2024, arXiv:2402.01306).
PREFERENCE_SHARE = 1 / 40

# Examples that a row should hold.
FITTING_SHARE = 0.995
ROUNDED_TO = 64
SHORTEST_ROW, SHORTEST_ROW_ON_GPU = 256, 2048

# Steps that a training should have, and bounds for the examples in one.
STEPS = 100
FEWEST_EXAMPLES, MOST_EXAMPLES = 4, 128

# Tokens in a pass above which neither a GPU nor a processor gets quicker.
TOKENS_AT_ONCE, TOKENS_AT_ONCE_ON_GPU = 4096, 16_384
# Of a GPU, what a training may be planned to fill.
USABLE = 0.95


@dataclass(frozen=True)
class Data:
    """What is known of the examples before training.

    :param lengths: tokens of each training example, without the prefix.
    :param answers: tokens of each that are learned.
    :param prefix: tokens that all begin with.
    :param together: examples that stand in one row as one: :attr:`TrainingSettings.together`.
    """

    lengths: npt.NDArray[np.uint32]
    answers: npt.NDArray[np.uint32]
    prefix: int
    together: int = 1

    @classmethod
    def of(cls, tokens: TokenFiles, together: int = 1) -> Data:
        """Return it for tokenized examples, of which only the lengths are read."""
        examples, prefix = Examples(tokens.train), len(tokens.prefix)
        lengths, answers = (
            each.reshape(-1, together).sum(axis=1, dtype=np.uint32)
            for each in (examples.lengths - np.uint32(prefix), examples.answers)
        )
        return cls(lengths, answers, prefix, together)

    def in_rows_of(self, engine: str) -> Data:
        """Return what a row of an engine holds of each: without the prefix, which then stands once in a row, or with it."""
        return (
            self
            if engine == "short_rows"
            else Data(self.lengths + np.uint32(self.together * self.prefix), self.answers, 0)
        )

    @property
    def learned(self) -> float:
        """The share of the tokens that are learned."""
        return float(self.answers.sum() / max(1, self.lengths.sum()))

    def too_long(self, length: int) -> float:
        """Return the share of the examples that do not fit into a row of so many tokens."""
        return float((self.lengths > length).mean())


@dataclass(frozen=True)
class Decided:
    """A training of which nothing is left open.

    :param training: `rows_per_batch` is what one process takes at once.
    :param reasons: of what the settings leave open, by field.
    :param missing: what does not fit, and what would; empty: it fits.
    :param prefix: tokens that stand before those of a row.
    """

    training: Training
    reasons: Mapping[str, str]
    counts: Counts
    memory: Memory
    missing: str
    prefix: int


def decide(
    settings: TrainingSettings,
    paper: PaperModel,
    data: Data,
    machine: Machine,
    *,
    processes: int,
    world: int,
    resumed: Mapping[str, Any] | None = None,
) -> Decided:
    """Return the training that these settings ask for, here, with what it will hold in memory.

    :param processes: on each node.
    :param world: on all nodes.
    :param resumed: the settings of the training that a checkpoint belongs to.
    :raises BadInput: a step cannot be shared out evenly.
    """
    place = _Place(paper, data, machine, processes, world)
    taken = {name: resumed[name] for name in LEARNED_WITH if name in resumed} if resumed else {}
    asked = settings.model_copy(update=taken)
    check_shares(asked, world)
    decided = _first_that_fits(asked, place)
    reasons = dict.fromkeys(taken.keys() & _left_open(settings), "as the checkpoint was made with")
    decided = replace(decided, reasons={**decided.reasons, **reasons})
    if not decided.missing:
        return decided
    remedy = "no setting is known with which it would fit"
    for change in _changes(decided.training, place):
        with suppress(ValueError):  # of settings that do not go together
            changed = TrainingSettings(**{**asked.model_dump(), **change})
            other = _first_that_fits(changed, place)
            if not other.missing:
                told = {name: getattr(other.training, name) for name in change}
                told = {name: value for name, value in told.items() if value != getattr(decided.training, name)}
                remedy = f"it would fit with {', '.join(f'training.{name}: {value}' for name, value in told.items())}"
                break
    return replace(decided, missing=f"{decided.missing}; {remedy}")


@dataclass(frozen=True)
class _Place:
    """What a training is decided for."""

    paper: PaperModel
    data: Data
    machine: Machine
    processes: int
    world: int

    @property
    def gpu(self) -> bool:
        return bool(self.machine.gpu)


def _left_open(settings: TrainingSettings) -> set[str]:
    return {name for name, value in settings if value is None or value == "auto"}


def _changes(training: Training, place: _Place) -> Iterator[dict[str, Any]]:
    """Yield changes that take less and less memory: first those that leave what is learned as it is."""
    smaller: dict[str, Any] = {"rows_per_batch": None}
    yield smaller
    if training.engine == "stock":
        smaller |= {"gradient_checkpointing": "full"}
        yield smaller
    for stage in (2, 3) if place.world > 1 else ():
        yield {**smaller, "zero_stage": stage}
    for offload in ("optimizer", "all") if place.gpu else ():
        yield {**smaller, "zero_stage": 3, "offload": offload}
    adapter = {**smaller, "method": "lora", "zero_stage": None, "offload": "none", "learning_rate": None}
    yield adapter
    if training.engine == "stock":
        yield {**adapter, "quantize": "nf4"}
    for shorter in (2, 4):
        yield {**adapter, "sequence_length": max(16, training.sequence_length // shorter)}


def _first_that_fits(settings: TrainingSettings, place: _Place) -> Decided:
    """Return the most wanted training that fits; where none does, the one that is asked for, with what is missing."""
    given = place.data
    for engine in ("short_rows", "stock"):
        place = replace(place, data=given.in_rows_of(engine))
        length, reasons = _sequence_length(settings, place)
        chosen, because = engine_for(settings, length, gpu=place.gpu)
        if chosen == engine:
            break
    reasons |= {"engine": because} if settings.engine == "auto" else {}
    settings = settings.model_copy(update={"sequence_length": length, "engine": chosen})
    asked: Decided | None = None
    for tried, why in _ways(settings, place):
        training, more = _completed(tried, place)
        sizes = list(_batch_sizes(training, place.world, all_of_them=settings.rows_per_batch is None))
        if not _fits_without_a_pass(training, place):
            sizes = sizes[-1:] if asked is None else []  # no batch is small enough: told of one
        for rows in sizes:
            sized = training.model_copy(update={"rows_per_batch": rows})
            memory = place.paper.memory(
                sized, place.world, training.rows_per_step // (rows * place.world), gpu=place.gpu
            )
            missing = shortage(memory, _disk(sized, place), place.machine, place.processes)
            counts = place.paper.counts(sized)
            decided = Decided(sized, {**reasons, **why, **more}, counts, memory, missing, place.data.prefix)
            if not missing:
                return decided
        asked = asked or decided
    assert asked  # noqa: S101  (there is at least one way)
    return asked


def _fits_without_a_pass(training: Training, place: _Place) -> bool:
    """Whether what is held all the time fits, which is known without counting what a pass holds."""
    held = estimate(place.paper.counts(training), StepMemory(0, 0), training, place.world, 2, gpu=place.gpu)
    return not shortage(held, _disk(training, place), place.machine, place.processes)


def _disk(training: Training, place: _Place) -> int:
    counts = place.paper.counts(training)
    return checkpoint_bytes(counts, training) + model_bytes(counts, training)


def _sequence_length(settings: TrainingSettings, place: _Place) -> tuple[int, dict[str, str]]:
    if settings.sequence_length:
        return settings.sequence_length, {}
    lengths, most = place.data.lengths, place.paper.positions - place.data.prefix
    longest, fitting = int(lengths.max(initial=1)), math.ceil(np.quantile(lengths, FITTING_SHARE))
    wanted = longest if longest <= 2 * fitting else fitting
    length = max(ROUNDED_TO * math.ceil(wanted / ROUNDED_TO), SHORTEST_ROW_ON_GPU if place.gpu else SHORTEST_ROW)
    if length > most:
        return max(16, most), {"sequence_length": f"the model has {place.paper.positions:,} positions"}
    return length, {"sequence_length": f"for examples of up to {wanted:,} tokens; the longest has {longest:,}"}


def _ways(settings: TrainingSettings, place: _Place) -> Iterator[tuple[TrainingSettings, dict[str, str]]]:
    """Yield settings whose method, ZeRO stage and gradient checkpointing are decided, the ones to prefer first."""
    stages = [settings.zero_stage] if settings.zero_stage is not None else _stages(settings, place)
    again = {"auto": ["none", "full"] if settings.engine == "stock" else ["none"]}.get(
        settings.gradient_checkpointing, [settings.gradient_checkpointing]
    )
    for method in ["full", "lora"] if settings.method == "auto" else [settings.method]:
        for stage, checkpointing in itertools.product(stages, again):
            reasons = {
                "method": "all weights fit" if method == "full" else "training all weights does not fit in memory",
                "zero_stage": f"the lowest that fits, for {place.world} process{'es' * (place.world > 1)}",
            }
            if settings.engine == "stock":
                fit = "fit" if checkpointing == "none" else "do not fit otherwise"
                reasons["gradient_checkpointing"] = f"the activations {fit}"
            update = {"method": method, "zero_stage": stage, "gradient_checkpointing": checkpointing}
            yield (
                settings.model_copy(update=update),
                {name: reasons[name] for name in reasons if name in _left_open(settings)},
            )


def _stages(settings: TrainingSettings, place: _Place) -> list[int]:
    lowest = {"none": 0, "optimizer": 1, "all": 3}[settings.offload]
    if place.world == 1:
        return [lowest]
    most = 3 if settings.recipe == "sft" else 2
    return [stage for stage in ((2, 3) if place.gpu else (0, 2, 3)) if lowest <= stage <= most]


def _completed(settings: TrainingSettings, place: _Place) -> tuple[Training, dict[str, str]]:
    """Return a training; its `rows_per_batch` is still the most that is worth while."""
    assert settings.sequence_length  # noqa: S101  (decided before)
    reasons: dict[str, str] = {}
    update: dict[str, Any] = {}
    if settings.learning_rate is None:
        parameters = place.paper.parameters
        update["learning_rate"] = learning_rate(parameters, settings.method, settings.recipe)
        what = "an adapter" if settings.method == "lora" else "all weights"
        by = "" if settings.recipe == "sft" else f" by {settings.recipe.upper()}"
        reasons["learning_rate"] = f"for {what} of {shown(parameters)} parameters{by}"
    if settings.rows_per_step is None:
        update["rows_per_step"], reasons["rows_per_step"] = _rows_per_step(settings, place)
    if settings.rows_per_batch is None:
        most = TOKENS_AT_ONCE_ON_GPU if place.gpu else TOKENS_AT_ONCE
        update["rows_per_batch"] = max(1, most // (settings.sequence_length + place.data.prefix))
        reasons["rows_per_batch"] = f"the most that fit and divide a step, of up to {most:,} tokens"
    return Training(**{**settings.model_dump(), **update}), reasons


def learning_rate(parameters: int, method: str, recipe: str = "sft") -> float:
    """Return the peak learning rate for a model of so many parameters."""
    full = next(rate for size, rate in LEARNING_RATES if parameters <= size)
    full = full if recipe == "sft" else full * PREFERENCE_SHARE
    return LORA_TIMES * full if method == "lora" else full


def _rows_per_step(settings: TrainingSettings, place: _Place) -> tuple[int, str]:
    lengths, length, world = place.data.lengths, settings.sequence_length or 1, place.world
    wanted = min(MOST_EXAMPLES, max(FEWEST_EXAMPLES, len(lengths) * settings.epochs / STEPS))
    in_a_row = max(1.0, length / max(1.0, float(np.minimum(lengths, length).mean())))
    rows = 2 ** max(0, round(math.log2(wanted / in_a_row)))
    rows = min(4096 // world, math.ceil(rows / world)) * world
    return rows, f"about {rows * in_a_row:.0f} of {len(lengths):,} examples"


def _batch_sizes(training: Training, world: int, *, all_of_them: bool) -> Iterator[int]:
    """Yield the rows that one process may take at once, the most first."""
    rows = rows_at_once(training, world)
    yield rows
    while all_of_them and rows > 1:
        rows = rows_at_once(training.model_copy(update={"rows_per_batch": rows - 1}), world)
        yield rows


def shortage(memory: Memory, disk: int, machine: Machine, processes: int) -> str:
    """Return what of the machine is too small for so many processes on a node; empty where all fits.

    :param disk: bytes of a checkpoint and of the finished model.
    """
    if machine.gpu and memory.total > USABLE * machine.gpu_bytes:
        return f"{gb(memory.total)} of each GPU are needed, a {machine.gpu} has {gb(machine.gpu_bytes)}"
    host = processes * (memory.host if machine.gpu else memory.total) + memory.export
    if host > machine.host_bytes:
        return f"{gb(host)} of memory are needed on a node, this job may use {gb(machine.host_bytes)}"
    if disk > machine.disk_bytes:
        return f"{gb(disk)} of disk are needed for a checkpoint and the model, {gb(machine.disk_bytes)} are free"
    return ""


def gb(count: float) -> str:
    """Return bytes as people read them."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def shown(parameters: float) -> str:
    """Return a number of parameters as people read it."""
    for size, unit in ((1e9, " billion"), (1e6, " million")):
        if parameters >= size:
            return f"{parameters / size:,.1f}{unit}"
    return f"{parameters:,.0f}"
