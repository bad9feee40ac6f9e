"""Learning from judged answers: the loss is that of KTO, held-out ones are told apart, and a stop changes nothing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from examples_in_memory import example, packed_rows
from pydantic import ValidationError
from small_trainings import answer_nats, trainer, write_rows

from nightshift.errors import BadInput
from nightshift.settings.training import TrainingSettings
from nightshift.training.kto import KtoTrainer, answer_losses, class_weights, reference_point
from nightshift.training.preference import rewards


def test_it_needs_what_preference_pairs_need():
    with pytest.raises(ValidationError, match="recipe: kto compares last answers"):
        TrainingSettings(recipe="kto", loss_on="all_answers")


def test_few_bad_answers_count_as_much_as_many_good_ones():
    bad, good = class_weights(torch.tensor([True] * 9 + [False] * 3)).tolist()
    assert 9 * good == pytest.approx(3 * bad) == pytest.approx(6)


def test_what_answers_are_held_against_is_never_below_the_reference():
    assert reference_point(torch.tensor([[9.0, -2.0], [9.0, 1.0]])) == 0
    assert reference_point(torch.tensor([[9.0, 2.0], [9.0, 1.0]])) == 1.5
    assert reference_point(torch.zeros(0, 2)) == 0


def test_answers_of_one_kind_are_refused_before_the_reference_is_measured():
    packed = packed_rows([example([1, 2], [n]) for n in range(8)], 20, recipe="kto")
    packed.examples.desirable = np.ones(4, dtype=bool)
    with pytest.raises(BadInput, match="all judged answers that fit into a row are of one kind"):
        KtoTrainer(None, None, None, SimpleNamespace(train=packed, held_out=packed))


def test_loss_and_gradients_of_judged_answers_are_those_of_trl(llama, tokenizer, tmp_path):
    from copy import deepcopy

    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    generator = np.random.default_rng(5)
    rows = [
        {
            "prompt_ids": generator.integers(0, 250, 6).tolist(),
            "completion_ids": generator.integers(0, 250, some).tolist(),
            "label": some != 3,
        }
        for some in range(2, 6)
    ]
    for place, row in enumerate(rows):
        row["KL_completion_ids"] = rows[place - 1]["completion_ids"]
    reference = deepcopy(llama)
    with torch.no_grad():
        for weights in llama.parameters():
            weights.add_(0.05 * torch.randn_like(weights))
    desirable = torch.tensor([row["label"] for row in rows])
    of_class = class_weights(desirable)
    config = KTOConfig(
        str(tmp_path), beta=0.3, use_cpu=True, bf16=False, report_to=[], gradient_checkpointing=False,
        undesirable_weight=of_class[0].item(), desirable_weight=of_class[1].item(),
    )  # fmt: skip
    texts = [{"prompt": "a", "completion": "b", "label": True}, {"prompt": "c", "completion": "d", "label": False}]
    theirs = KTOTrainer(llama, reference, config, train_dataset=Dataset.from_list(texts), processing_class=tokenizer)
    expected = theirs.compute_loss(theirs.model, theirs.data_collator(rows))
    expected.backward()
    wanted = {name: weights.grad.clone() for name, weights in llama.named_parameters()}
    llama.zero_grad()

    nats = [answer_nats(model, rows, ("completion_ids", "KL_completion_ids")) for model in (llama, reference)]
    rewarded = rewards(nats[0], nats[1].detach(), beta=0.3)
    losses = answer_losses(rewarded, desirable, reference_point(rewarded))
    loss = (of_class[desirable.long()] * losses).mean()
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, weights in llama.named_parameters():
        torch.testing.assert_close(weights.grad, wanted[name], rtol=1e-3, atol=1e-6, msg=name)


@pytest.fixture
def train_judged(tmp_path, tmp_path_factory, base, forks):
    rows = tmp_path_factory.mktemp("judged")
    write_rows(rows, rejected="I cannot tell", judged=True)
    return trainer(tmp_path, rows, forks, base, recipe="kto")


JUDGED = {"recipe": "kto", "learning_rate": 3e-3, "sequence_length": 256, "evaluate_steps": 5}


@pytest.mark.slow
def test_held_out_answers_are_told_apart_and_a_stop_changes_no_bit(train_judged):
    straight = train_judged(1, "straight", **JUDGED)
    assert straight.accuracies[-1] == pytest.approx(1)
    assert straight.held_out[-1] < straight.held_out[0] < 0.5
    assert max(straight.of_steps) == pytest.approx(1), "no share of a step is above 1"
    first = train_judged(1, "stopped", stop_after=4, **JUDGED)
    second = train_judged(1, "stopped", **JUDGED)
    assert {**first.losses, **second.losses} == straight.losses
    assert all(second.weights[name].equal(tensor) for name, tensor in straight.weights.items())


@pytest.mark.slow
@pytest.mark.nightly
def test_an_adapter_in_two_processes_of_the_stock_engine_learns_what_one_of_the_other_does(train_judged):
    lora = {**JUDGED, "method": "lora", "lora_rank": 4, "learning_rate": 2e-2, "rows_per_step": 4}
    short = train_judged(1, "short", engine="short_rows", shared=False, rows_per_batch=4, **lora)
    stock = train_judged(2, "stock", engine="stock", zero_stage=2, shared=False, rows_per_batch=2, **lora)
    assert stock.losses == pytest.approx(short.losses, rel=1e-3)
    assert stock.held_out == pytest.approx(short.held_out, rel=1e-3)
    assert stock.accuracies == short.accuracies
