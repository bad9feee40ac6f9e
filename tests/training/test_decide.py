"""What the settings leave open follows from the model, the data and the machine; what they give is never changed."""

import numpy as np
import pytest

from nightshift.errors import BadInput
from nightshift.settings.training import Training, TrainingSettings
from nightshift.training.decide import Data, decide, learning_rate
from nightshift.training.machine import Machine
from nightshift.training.memory import PaperModel, checkpoint_bytes

GB = 10**9
NODE = Machine("H100", 80 * GB, 1000 * GB, 10_000 * GB)


def data(count=5000, low=50, high=400):
    lengths = np.random.default_rng(0).integers(low, high, count).astype(np.uint32)
    return Data(lengths, lengths // 4, 20)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Configs of models of 30 million and 8 billion parameters; nothing of them but the config is there."""
    from transformers import LlamaConfig

    sizes = {
        "small": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "vocab_size": 49152},
        "large": {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 7, "vocab_size": 128256},
    }
    folders = {}
    for name, size in sizes.items():
        folders[name] = tmp_path_factory.mktemp(name)
        LlamaConfig(
            **size, num_attention_heads=size["hidden_size"] // 64, num_key_value_heads=2, max_position_embeddings=8192
        ).save_pretrained(folders[name])
    return folders


def decided(folder, machine=NODE, processes=1, examples=None, resumed=None, **settings):
    examples = examples or data()
    paper = PaperModel(folder, examples.learned, examples.prefix)
    settings = TrainingSettings(**{"precision": "bf16", **settings})
    return decide(settings, paper, examples, machine, processes=processes, world=processes, resumed=resumed)


def laptop(memory_gb):
    return Machine("", 0, int(memory_gb * GB), 100 * GB)


def test_a_small_model_on_a_laptop_is_trained_whole_by_the_engine_for_short_rows(models):
    found = decided(models["small"], laptop(6))
    training = found.training
    assert not found.missing
    assert (training.engine, training.method, training.zero_stage) == ("short_rows", "full", 0)
    assert training.learning_rate == 2e-4
    assert training.sequence_length == 448, "the longest example fits"
    assert training.rows_per_step % training.rows_per_batch == 0
    assert found.reasons.keys() >= {"engine", "method", "learning_rate", "sequence_length", "rows_per_step"}


def test_where_all_weights_do_not_fit_an_adapter_is_trained_at_ten_times_the_rate(models):
    found = decided(models["small"], laptop(1.3))
    assert not found.missing
    assert found.training.method == "lora"
    assert found.training.learning_rate == 2e-3
    assert found.counts.trained < found.counts.total / 10
    assert checkpoint_bytes(found.counts, found.training) < found.counts.total


def test_eight_gpus_share_what_one_cannot_hold(models):
    alone, eight = decided(models["large"], NODE, 1), decided(models["large"], NODE, 8)
    assert alone.training.method == "lora"
    assert (eight.training.method, eight.training.engine) == ("full", "stock")
    assert eight.training.zero_stage >= 2
    assert eight.training.learning_rate == 2e-5
    assert eight.training.rows_per_step % 8 == 0
    assert not alone.missing
    assert not eight.missing
    assert eight.memory.total < 80 * GB


def test_what_is_given_is_never_changed(models):
    given = {"method": "lora", "learning_rate": 3e-5, "zero_stage": 1, "rows_per_step": 6, "rows_per_batch": 3,
             "sequence_length": 300, "engine": "stock", "gradient_checkpointing": "full"}  # fmt: skip
    found = decided(models["small"], laptop(6), **given)
    assert {name: getattr(found.training, name) for name in given} == given
    assert not found.reasons
    assert isinstance(found.training, Training)


def test_what_cannot_fit_is_refused_with_the_least_change_that_would(models):
    given = {"method": "full", "sequence_length": 256, "rows_per_step": 64, "rows_per_batch": 64, "zero_stage": 0}
    found = decided(models["small"], laptop(2.5), **given)
    assert "are needed on a node, this job may use 2.5 GB" in found.missing
    assert "it would fit with training.rows_per_batch: " in found.missing
    little_host_memory = Machine("H100", 80 * GB, 64 * GB, 1000 * GB)
    alone = decided(models["large"], little_host_memory, **{**given, "rows_per_batch": 1, "rows_per_step": 1})
    assert "it would fit with training.gradient_checkpointing: full, training.method: lora" in alone.missing
    assert "no setting is known" in decided(models["large"], laptop(6), method="lora", rows_per_step=1).missing


def test_an_attempt_on_another_machine_takes_over_what_a_checkpoint_was_made_with(models):
    first = decided(models["large"], NODE, 8)
    resumed = decided(models["large"], NODE, 4, resumed=first.training.model_dump(mode="json"))
    for name in ("method", "learning_rate", "sequence_length", "rows_per_step", "zero_stage", "engine"):
        assert getattr(resumed.training, name) == getattr(first.training, name), name
    assert resumed.reasons["method"] == "as the checkpoint was made with"
    with pytest.raises(BadInput, match="must be a multiple of the 3 processes"):
        decided(models["large"], NODE, 3, resumed=first.training.model_dump(mode="json"))


def test_a_few_very_long_examples_do_not_make_all_rows_long(models):
    lengths = np.full(10_000, 300, dtype=np.uint32)
    lengths[:10] = 6000
    found = decided(models["small"], laptop(6), examples=Data(lengths, lengths // 4, 20))
    assert found.training.sequence_length == 320
    most = decided(
        models["small"], laptop(16), examples=Data(lengths * 100, lengths, 20), method="lora", rows_per_step=1
    )
    assert most.training.sequence_length == 8192, "no more than the model has positions for"


def test_few_examples_get_small_steps_and_many_get_large_ones(models):
    steps = [
        decided(models["small"], laptop(6), examples=data(count)).training.rows_per_step for count in (200, 5000, 10**6)
    ]
    assert steps == sorted(steps)
    assert steps[0] * 2 <= steps[-1] <= 128


@pytest.mark.parametrize(
    ("parameters", "full"), [(135e6, 2e-4), (1.7e9, 5e-5), (8e9, 2e-5), (13e9, 2e-5), (70e9, 1e-5)]
)
def test_larger_models_learn_at_lower_rates(parameters, full):
    assert learning_rate(int(parameters), "full") == full
    assert learning_rate(int(parameters), "lora") == pytest.approx(10 * full)
