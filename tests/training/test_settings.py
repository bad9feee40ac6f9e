"""What the settings of a training mean: DeepSpeed's configuration, the order of rows, the learning rate."""

import pytest
from pydantic import ValidationError

from nightshift.settings.training import Training
from nightshift.training.deepspeed_config import deepspeed_config
from nightshift.training.schedules import rate
from nightshift.training.task import row_order


def test_offload_moves_what_it_says():
    plain = deepspeed_config(Training(zero_stage=3), 1)["zero_optimization"]
    assert "offload_optimizer" not in plain
    everything = deepspeed_config(Training(zero_stage=3, offload="all"), 1)["zero_optimization"]
    assert everything["offload_optimizer"]["device"] == everything["offload_param"]["device"] == "cpu"


def test_more_of_deepspeeds_configuration_is_joined_to_ours():
    more = {"zero_optimization": {"reduce_bucket_size": 7}, "communication_data_type": "fp32"}
    config = deepspeed_config(Training(zero_stage=2, deepspeed=more), 1)
    assert config["zero_optimization"]["reduce_bucket_size"] == 7
    assert config["zero_optimization"]["stage"] == 2
    assert config["communication_data_type"] == "fp32"


def test_precision_and_clipping_reach_deepspeed():
    config = deepspeed_config(Training(precision="fp32", gradient_clipping=0.5), 1)
    assert config["bf16"]["enabled"] is False
    assert config["gradient_clipping"] == 0.5


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rows_per_step": 4, "processes": 3}, r"rows_per_step \(4\) must be a multiple of processes \(3\)"),
        ({"offload": "optimizer", "zero_stage": 0}, "needs zero_stage 1"),
        ({"offload": "all", "zero_stage": 2}, "needs zero_stage 3"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, says):
    with pytest.raises(ValidationError, match=says):
        Training(**settings)


def test_each_pass_sees_every_row_once_in_an_order_of_its_own():
    order = row_order(10, epochs=2, seed=1).tolist()
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    assert order[:10] != order[10:]
    assert order == row_order(10, epochs=2, seed=1).tolist() != row_order(10, epochs=2, seed=2).tolist()


@pytest.mark.parametrize(("epochs", "rows"), [(0.5, 5), (1.3, 13), (0.001, 1)])
def test_a_part_of_a_pass_takes_a_part_of_the_rows(epochs, rows):
    order = row_order(10, epochs=epochs, seed=1).tolist()
    assert len(order) == rows
    assert order == row_order(10, epochs=5, seed=1).tolist()[:rows]


def test_the_rate_rises_from_the_first_step_and_falls_to_nearly_nothing():
    rates = [rate(step, schedule="cosine", warmup=0.1, steps=50) for step in range(50)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[4] == 1.0
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0 < rates[-1] < 0.01


@pytest.mark.parametrize(
    ("schedule", "middle", "last"), [("linear", 0.5, 0.02), ("wsd", 1.0, 0.1), ("constant", 1.0, 1.0)]
)
def test_other_schedules_fall_as_their_names_say(schedule, middle, last):
    rates = [rate(step, schedule=schedule, warmup=0.1, steps=50) for step in range(50)]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[27] == pytest.approx(middle, abs=0.02)
    assert rates[-1] == pytest.approx(last, abs=0.01)
    assert rates[:5] == [rate(step, schedule="cosine", warmup=0.1, steps=50) for step in range(5)]


@pytest.mark.parametrize(
    ("given", "instead"),
    [({"bf16": {"enabled": True}}, "training.precision"), ({"zero_optimization": {"stage": 3}}, "training.zero_stage")],
)
def test_what_deepspeed_is_told_by_a_field_is_refused_beside_it(given, instead):
    with pytest.raises(ValidationError, match=f"set {instead} instead"):
        Training(deepspeed=given)
