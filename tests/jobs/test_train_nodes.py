"""Training on several nodes: the same model as on one, whatever happens to a node, and a clear end where it cannot be."""

import signal
import time

import pytest
from training_runs import (
    checkpoints_of,
    copy_of,
    finish,
    losses_of,
    model_of,
    start,
    start_nodes,
    wait_for_checkpoint,
    weights_of,
)

pytestmark = pytest.mark.slow


@pytest.mark.nightly
def test_nodes_that_are_killed_and_stopped_end_with_the_model_of_one_undisturbed_process(trainings, tmp_path):
    spec = trainings(epochs=16, precision="fp32", zero_stage=1, checkpoint_steps=8, evaluate_steps=1000)
    alone = copy_of(spec, "alone")
    finish(start(alone, tmp_path / "alone"), tmp_path / "alone", 69)

    nodes = (first, first_folder), (second, second_folder) = start_nodes(spec, tmp_path)
    wait_for_checkpoint(spec, first)
    second.kill()
    killed = time.monotonic()
    finish(first, first_folder, 75)
    assert time.monotonic() - killed < 60
    assert "node 1 has not answered for 15 s; all nodes must start again" in (first_folder / "log").read_text()
    newest = checkpoints_of(spec)[-1]

    nodes = (first, first_folder), (second, second_folder) = start_nodes(spec, tmp_path)
    assert any('"steps"' in line for line in first.stdout)
    second.send_signal(signal.SIGTERM)
    for node, folder in nodes:
        finish(node, folder, 75)
        assert f"going on from the checkpoint of step {int(newest[-6:])}" in (folder / "log").read_text()
    assert checkpoints_of(spec)[-1] > newest
    assert "stopped after step" in (second_folder / "log").read_text()

    nodes = (first, first_folder), (second, second_folder) = start_nodes(spec, tmp_path)
    finish(second, second_folder, 0)
    finish(first, first_folder, 69)  # MLflow is down: the model waits in storage
    assert not (second_folder / "result.json").exists()
    assert model_of(spec)[1].facts["fitted"]["processes"] == 2
    losses = [losses_of(*model_of(each)[:2], tmp_path) for each in (alone, spec)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    after = weights_of(spec)
    for name, weights in weights_of(alone).items():
        assert after[name].numpy() == pytest.approx(weights.numpy(), abs=1e-4), name
    # One that is started again alone, when all is done, needs no other.
    finish(start(spec, second_folder, NIGHTSHIFT_NODES="2", JOB_COMPLETION_INDEX="1"), second_folder, 0)


def test_what_ends_one_node_is_in_the_log_of_the_other(trainings, tmp_path):
    nodes = start_nodes(trainings(sequence_length=16), tmp_path)
    for node, folder in nodes:
        finish(node, folder, 65)
        assert "are longer than training.sequence_length 16" in (folder / "log").read_text()


def test_rows_that_cannot_be_shared_out_over_all_nodes_are_refused_at_once(trainings, tmp_path):
    for node, folder in start_nodes(trainings(rows_per_step=3), tmp_path):
        finish(node, folder, 65)
        assert "rows_per_step (3) must be a multiple of the 2 processes" in (folder / "log").read_text()
