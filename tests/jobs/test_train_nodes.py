"""Training on several nodes: the same model as on one, whatever happens to a node, and a clear end where it cannot be."""

import pytest
from training_runs import copy_of, finish, losses_of, model_of, start, start_nodes, weights_of

pytestmark = pytest.mark.slow


def test_two_nodes_learn_the_same_as_one_process(trainings, tmp_path):
    spec = trainings(epochs=2, precision="fp32", zero_stage=1)
    alone = copy_of(spec, "alone")
    finish(start(alone, tmp_path / "alone"), tmp_path / "alone", 69)
    (first, first_folder), (second, second_folder) = start_nodes(spec, tmp_path)
    finish(second, second_folder, 0)
    finish(first, first_folder, 69)
    losses = [losses_of(*model_of(each)[:2], tmp_path) for each in (alone, spec)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert weights_of(spec).keys() == weights_of(alone).keys()
