"""The memory of a training from the config of a model: by the table of ZeRO, for every family, whatever its code."""

import pytest
from families import ENDS, FAMILIES, GROUPED

from nightshift.settings.training import Training
from nightshift.training.memory import Counts, PaperModel, checkpoint_bytes, estimate
from nightshift.training.step_memory import StepMemory

BILLION = 10**9
SEVEN = Counts(total=7 * BILLION, trained=7 * BILLION, quantizable=0, largest=BILLION // 2)
ADAPTER = Counts(total=7 * BILLION, trained=BILLION // 25, quantizable=6 * BILLION, largest=BILLION // 2)


def held(counts=SEVEN, world=8, **settings):
    training = Training(**{"precision": "bf16", "engine": "stock", "rows_per_step": 8, **settings})
    return estimate(counts, StepMemory(BILLION, BILLION), training, world, 1, gpu=True)


def test_zero_divides_what_processes_share():
    alone, two, three = (held(zero_stage=stage) for stage in (0, 2, 3))
    assert (alone.weights, alone.gradients, alone.optimizer) == (14 * BILLION, 14 * BILLION, 84 * BILLION)
    assert (two.weights, two.gradients, two.optimizer) == (14 * BILLION, 14 * BILLION // 8, 84 * BILLION // 8)
    assert three.weights == 14 * BILLION // 8
    assert held(zero_stage=3, world=16).optimizer == three.optimizer // 2
    assert held(zero_stage=0, precision="fp32").optimizer == 56 * BILLION, "two moments, the weights are fp32 already"


def test_an_adapter_needs_gradients_and_states_for_itself_alone_and_four_bits_hold_the_rest():
    adapter = held(ADAPTER, world=1, method="lora")
    assert adapter.weights == 14 * BILLION
    assert adapter.optimizer == 12 * ADAPTER.trained
    quantized = held(ADAPTER, world=1, method="lora", quantize="nf4")
    assert quantized.weights == pytest.approx(2 * BILLION + 6 * BILLION * 0.516, rel=0.01)
    assert checkpoint_bytes(ADAPTER, Training(precision="bf16", method="lora")) == 14 * ADAPTER.trained


def test_what_is_offloaded_is_held_by_the_machine():
    kept, moved = held(zero_stage=3), held(zero_stage=3, offload="all")
    assert moved.optimizer == moved.weights == 0
    assert moved.total < kept.total - kept.optimizer
    assert moved.host - kept.host >= kept.optimizer + kept.weights
    assert moved.export == 14 * BILLION, "the first process gathers the model"


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("engine", ["short_rows", "stock"])
def test_the_passes_of_every_family_are_counted(tmp_path, caplog, name, engine):
    from transformers import AutoConfig

    AutoConfig.for_model(name, vocab_size=300, **FAMILIES[name], **ENDS).save_pretrained(tmp_path)
    paper = PaperModel(tmp_path, learned=0.3, prefix=10)
    settings = {"engine": engine, "precision": "bf16", "sequence_length": 128}
    whole, adapter = (paper.step(Training(**settings, method=method), 2) for method in ("full", "lora"))
    assert 0 < whole.alone < adapter.alone
    assert "formula" not in caplog.text
    twice = paper.step(Training(**settings), 4)
    assert twice.alone == pytest.approx(2 * whole.alone, rel=0.2)


def test_code_that_looks_at_values_is_estimated_by_a_formula(tmp_path, caplog, monkeypatch):
    from transformers import AutoConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    AutoConfig.for_model("llama", vocab_size=300, **GROUPED, **ENDS).save_pretrained(tmp_path)
    training = Training(engine="stock", precision="bf16", sequence_length=256)
    counted = PaperModel(tmp_path).step(training, 4)
    kept = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: kept(self, x) if x.sum() > 0 else x)
    by_formula = PaperModel(tmp_path).step(training, 4)
    assert "a llama model holds is taken from a formula" in caplog.text
    assert 0.3 * counted.alone < by_formula.alone < 3 * counted.alone
