"""Which engine trains follows from the machine and the rows, is told with its reason, and is part of a model's address."""

import pytest
from pydantic import ValidationError

from nightshift.jobs.train import _with_effect
from nightshift.settings.training import Training
from nightshift.training.engine import engine_for, with_engine
from nightshift.training.gpu_use import gpu_numbers, model_flops, peak_of


@pytest.mark.parametrize(
    ("gpu", "settings", "engine", "reason"),
    [
        (False, {}, "short_rows", "no GPU, and rows of 256 tokens"),
        (False, {"sequence_length": 513}, "stock", "rows of 513 tokens are longer than 512"),
        (False, {"gradient_checkpointing": "full"}, "stock", "training.gradient_checkpointing is set"),
        (True, {}, "stock", "there is a GPU"),
        (True, {"engine": "short_rows"}, "short_rows", "as set"),
    ],
)
def test_the_engine_follows_from_machine_and_rows(*, gpu, settings, engine, reason):
    training = Training(**settings)
    assert engine_for(training, training.sequence_length, gpu=gpu) == (engine, reason)


def test_models_of_short_rows_keep_their_address_and_those_of_the_other_engine_have_their_own():
    without = {"evaluate_steps", "checkpoint_steps", "rows_per_batch", "processes", "window_days", "min_examples"}
    before = Training().model_dump(mode="json", exclude=without)
    assert _with_effect(with_engine(Training())) == before
    assert _with_effect(Training(engine="stock", torch_compile=True)) == {**before, "engine": "stock"}
    early = [_with_effect(Training(engine="short_rows", early_stopping=2, evaluate_steps=steps)) for steps in (5, 6)]
    assert early[0] != early[1]


def test_what_only_the_stock_engine_knows_is_refused_beside_the_other():
    with pytest.raises(ValidationError, match="torch_compile is for engine: stock"):
        Training(engine="short_rows", torch_compile=True)


def test_the_work_of_a_step_is_counted_by_hand_once(llama):
    weights = sum(weight.numel() for name, weight in llama.named_parameters() if "embed_tokens" not in name)
    pairs = 6 * 2 * 4 * 8  # six, for two layers of four heads of eight numbers
    assert model_flops(llama, 10, 52) == 6 * weights * 10 + pairs * 52  # of examples of 4 and 6 tokens
    llama.model.layers[0].requires_grad_(False)
    frozen = sum(weight.numel() for weight in llama.model.layers[0].parameters())
    assert model_flops(llama, 10, 52) == (6 * weights - 2 * frozen) * 10 + pairs * 52


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 9.89e14),
        ("NVIDIA H100 PCIe", 7.56e14),
        ("NVIDIA A100-SXM4-80GB", 3.12e14),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_no_share_of_a_peak_is_told_for_a_gpu_whose_peak_is_not_known(name, peak):
    assert peak_of(name) == peak


def test_without_a_gpu_nothing_is_told_of_one(llama):
    assert gpu_numbers(llama, 10, 52, 1.0, 1) == {}
