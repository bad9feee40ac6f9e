"""Learning from preference pairs: the loss is that of DPO, held-out pairs are told apart, and a stop changes nothing."""

import numpy as np
import pytest
import torch
from examples_in_memory import example, packed_rows
from pydantic import ValidationError
from small_trainings import answer_nats, trainer, write_rows

from nightshift.settings.training import TrainingSettings
from nightshift.training.decide import learning_rate
from nightshift.training.preference import margins, pair_losses, rewards


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"zero_stage": 3}, "needs zero_stage 2 or below"),
        ({"too_long": "cut"}, "needs too_long: leave_out"),
        ({"loss_on": "all_answers"}, "needs loss_on: last_answer"),
    ],
)
def test_what_pairs_cannot_be_trained_with_is_refused(settings, says):
    with pytest.raises(ValidationError, match=says):
        TrainingSettings(recipe="dpo", **settings)


def test_settings_of_before_keep_the_addresses_of_their_models():
    assert not {"recipe", "beta"} & TrainingSettings().model_dump().keys()


def test_preferences_are_learned_at_the_rates_of_zephyr():
    assert learning_rate(7_000_000_000, "full", "dpo") == pytest.approx(5e-7)
    assert learning_rate(7_000_000_000, "lora", "dpo") == pytest.approx(5e-6)


def test_both_answers_of_a_pair_are_in_one_row_and_a_pair_that_does_not_fit_is_left_out_whole():
    sizes = [(4, 3), (9, 2), (2, 2), (3, 5), (12, 9)]
    examples = [example([1, 2, *range(3, 3 + size)], [7]) for pair in sizes for size in pair]
    packed = packed_rows(examples, 20, shared=False, recipe="dpo")
    assert packed.packing.too_long == 1
    assert sorted(packed.packing.examples.tolist()) == list(range(8))
    for row in range(len(packed)):
        numbers = packed.packing.row(row)
        assert (numbers[1::2] == numbers[::2] + 1).all()
        assert (numbers[::2] % 2 == 0).all()
        assert packed.examples.lengths[numbers].sum() <= 20


def test_loss_and_gradients_of_pairs_are_those_of_trl(llama, tokenizer, tmp_path):
    from copy import deepcopy

    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    generator, names = np.random.default_rng(5), ("prompt_ids", "chosen_ids", "rejected_ids")
    pairs = [
        {
            name: generator.integers(0, 250, count).tolist()
            for name, count in zip(names, (6, some, 9 - some), strict=True)
        }
        for some in range(2, 6)
    ]
    reference = deepcopy(llama)
    with torch.no_grad():
        for weights in llama.parameters():
            weights.add_(0.05 * torch.randn_like(weights))
    config = DPOConfig(str(tmp_path), beta=0.3, use_cpu=True, bf16=False, report_to=[], gradient_checkpointing=False)
    text = {"prompt": "a", "chosen": "b", "rejected": "c"}
    theirs = DPOTrainer(llama, reference, config, train_dataset=Dataset.from_list([text]), processing_class=tokenizer)
    expected = theirs.compute_loss(theirs.model, theirs.data_collator(pairs))
    expected.backward()
    wanted = {name: weights.grad.clone() for name, weights in llama.named_parameters()}
    llama.zero_grad()

    nats = [answer_nats(model, pairs, ("chosen_ids", "rejected_ids")) for model in (llama, reference)]
    rewarded = rewards(nats[0], nats[1].detach(), beta=0.3)
    loss = pair_losses(rewarded).mean()
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert len(margins(rewarded)) == 4
    for name, weights in llama.named_parameters():
        torch.testing.assert_close(weights.grad, wanted[name], rtol=1e-3, atol=1e-6, msg=name)


@pytest.fixture
def train_pairs(tmp_path, tmp_path_factory, base, forks):
    rows = tmp_path_factory.mktemp("pairs")
    write_rows(rows, rejected="I cannot tell")
    return trainer(tmp_path, rows, forks, base, recipe="dpo")


PAIRS = {"recipe": "dpo", "learning_rate": 3e-3, "sequence_length": 256, "evaluate_steps": 5}


@pytest.mark.slow
def test_held_out_pairs_are_told_apart_and_a_stop_changes_no_bit(train_pairs):
    straight = train_pairs(1, "straight", **PAIRS)
    assert straight.losses[1] == pytest.approx(np.log(2), abs=1e-3), "the reference is not the model that it began as"
    assert straight.accuracies[-1] == 1.0
    assert straight.held_out[-1] < straight.held_out[0] < np.log(2)
    first = train_pairs(1, "stopped", stop_after=4, **PAIRS)
    second = train_pairs(1, "stopped", **PAIRS)
    assert {**first.losses, **second.losses} == straight.losses
    assert all(second.weights[name].equal(tensor) for name, tensor in straight.weights.items())


@pytest.mark.slow
@pytest.mark.nightly
def test_an_adapter_in_two_processes_of_the_stock_engine_learns_what_one_of_the_other_does(train_pairs):
    lora = {**PAIRS, "method": "lora", "lora_rank": 4, "learning_rate": 2e-2, "rows_per_step": 4}
    short = train_pairs(1, "short", engine="short_rows", shared=False, **lora)
    stock = train_pairs(2, "stock", engine="stock", zero_stage=2, shared=False, **lora)
    assert stock.losses == pytest.approx(short.losses, rel=1e-3)
    assert stock.held_out == pytest.approx(short.held_out, rel=1e-3)
    assert stock.accuracies == short.accuracies
