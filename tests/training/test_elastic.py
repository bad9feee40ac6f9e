"""A training that goes on with another number of processes ends where an undisturbed one does."""

import pytest

pytestmark = pytest.mark.slow
STOP_AFTER = 3
LORA = {"method": "lora", "lora_rank": 4}


@pytest.mark.parametrize(
    ("before", "after", "settings"),
    [
        (1, 2, {"zero_stage": 0, "trained_layers": 1}),
        (1, 2, {"zero_stage": 1, **LORA}),
        (2, 1, {"zero_stage": 3}),
        pytest.param(2, 1, {"zero_stage": 1}, marks=pytest.mark.nightly),
        pytest.param(2, 1, {"zero_stage": 3, "engine": "stock"}, marks=pytest.mark.nightly),
        pytest.param(2, 1, {"zero_stage": 2, "trained_layers": 1}, marks=pytest.mark.nightly),
        pytest.param(1, 2, {"zero_stage": 2}, marks=pytest.mark.nightly),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_it_goes_on_with_another_number_of_processes(train, before, after, settings):
    straight = train(1, "straight", **settings)
    first = train(before, "elastic", stop_after=STOP_AFTER, **settings)
    second = train(after, "elastic", **settings)
    assert list(first.losses) + list(second.losses) == list(straight.losses) == list(range(1, len(straight.losses) + 1))
    assert {**first.losses, **second.losses} == pytest.approx(straight.losses, rel=1e-4)
    for name, tensor in straight.weights.items():
        assert second.weights[name].numpy() == pytest.approx(tensor.numpy(), abs=1e-4), name


def test_an_adapter_goes_on_to_the_last_bit_from_a_checkpoint_without_the_base_model(train, tmp_path):
    import torch

    settings = {"zero_stage": 2, **LORA}
    straight = train(1, "straight", **settings)
    train(1, "stopped", stop_after=STOP_AFTER, **settings)
    (file,) = (tmp_path / "storage" / "stopped").glob("step-*/*/*/mp_rank_00_model_states.pt")
    state = torch.load(file, weights_only=False)
    assert state["module"]
    assert all("lora_" in name for name in state["module"])
    assert not state.get("frozen_param_fragments")
    resumed = train(1, "stopped", **settings)
    assert all(torch.equal(resumed.weights[name], tensor) for name, tensor in straight.weights.items())
