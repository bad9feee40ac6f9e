"""Training as a command: killed anywhere it goes on from a checkpoint, and the model that comes out is the same."""

import shutil
import signal
import time

import pytest
from training_runs import checkpoints_of, copy_of, finish, losses_of, metrics_of, model_of, start, wait_for_checkpoint
from upath import UPath

from nightshift.jobs.contract import read_result
from nightshift.storage.manifest import read_manifest
from nightshift.storage.partition import fetch_folder
from nightshift.training.precision import fast_precision

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("engine", ["auto", pytest.param("stock", marks=pytest.mark.nightly)])
def test_killed_at_three_places_it_ends_with_the_weights_of_an_undisturbed_training(
    trainings, tmp_path, storage, monkeypatch, engine
):
    spec = trainings(epochs=4, checkpoint_steps=5, evaluate_steps=4, engine=engine)
    undisturbed = copy_of(spec, "undisturbed")
    # MLflow is down all along: the model waits in storage (69: the environment is bad).
    finish(start(undisturbed, tmp_path / "straight", anew=True), tmp_path / "straight", 69)
    _, straight, weights = model_of(undisturbed)

    killed = tmp_path / "killed"
    saving, published = ("nightshift.storage.partition", "create", 3), ("nightshift.training.checkpoints", "drop", 1)
    finish(start(spec, killed, dies_at=saving), killed, -signal.SIGKILL)
    assert read_manifest(next((UPath(storage) / "app" / "checkpoints").glob("*/*"))) is None
    finish(start(spec, killed, dies_at=published), killed, -signal.SIGKILL)
    assert checkpoints_of(spec) == ["step-000005", "step-000010", "step-000015"]
    exporting = ("nightshift.training.fit", "export", 1)
    finish(start(spec, killed, dies_at=exporting), killed, -signal.SIGKILL)
    assert not (UPath(storage) / "app" / "models").exists()
    finish(start(spec, killed), killed, 69)
    partition, manifest, after = model_of(spec)
    assert "going on from the checkpoint of step 15" in (killed / "log").read_text()

    assert after == weights
    assert manifest.counts == straight.counts
    assert manifest.counts["steps"] >= 16
    steps = [line["step"] for line in metrics_of(partition, manifest, tmp_path) if "loss" in line["metrics"]]
    assert steps == list(range(1, manifest.counts["steps"] + 1))
    assert checkpoints_of(spec) == []
    assert not (killed / "compiled").exists()


def test_sigterm_saves_and_the_next_attempt_goes_on(trainings, tmp_path):
    spec = trainings(epochs=50, checkpoint_steps=10_000, evaluate_steps=10_000)
    folder = tmp_path / "attempt"
    process = start(spec, folder)
    assert any('"steps"' in line for line in process.stdout)
    process.send_signal(signal.SIGTERM)
    finish(process, folder, 75)
    (saved,) = checkpoints_of(spec)
    assert f"stopped after step {int(saved.removeprefix('step-'))}" in (folder / "log").read_text()
    finish(start(spec, folder), folder, 69)
    assert f"going on from the checkpoint of step {int(saved.removeprefix('step-'))}" in (folder / "log").read_text()


def test_an_attempt_with_other_processes_goes_on_as_the_first_one_decided(trainings, tmp_path):
    from nightshift.settings.training import TrainingSettings

    def with_processes(count):
        left_open = TrainingSettings(min_examples=1, epochs=30, checkpoint_steps=5, precision="fp32", processes=count)
        return trainings().model_copy(update={"training": left_open})

    folder = tmp_path / "attempt"
    first = start(with_processes(2), folder)
    wait_for_checkpoint(with_processes(2), first)
    first.kill()
    first.communicate()
    finish(start(with_processes(1), folder), folder, 69)
    log = (folder / "log").read_text()
    assert "training.rows_per_step: 2 (as the checkpoint was made with)" in log
    assert "going on from the checkpoint of step" in log
    _, manifest, _ = model_of(with_processes(1))
    decided = manifest.facts["training"]
    assert (decided["rows_per_step"], decided["rows_per_batch"], decided["processes"]) == (2, 2, 1)
    assert (decided["method"], decided["learning_rate"], decided["sequence_length"]) == ("full", 2e-4, 256)


def test_an_mlflow_outage_loses_nothing_and_a_retry_only_logs(trainings, tmp_path, mlflow_server):
    from mlflow import MlflowClient

    spec, folder = trainings(epochs=2), tmp_path / "attempt"
    finish(start(spec, folder), folder, 69)
    assert "he results are kept in storage" in (folder / "log").read_text()
    partition, manifest, _ = model_of(spec)
    began = time.monotonic()
    finish(start(spec, folder, mlflow=mlflow_server), folder, 0)
    assert time.monotonic() - began < 60
    result = read_result("train", spec, str(folder / "result.json")).result
    assert (result["model"], result["digest"]) == (str(partition), manifest.digest)

    run = MlflowClient(mlflow_server).get_run(result["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["learning_rate"] == "0.001"
    assert run.data.tags["nightshift.snapshot_digest"] == spec.digest
    assert run.data.tags["nightshift.base_model_digest"]
    expected = {"loss", "learning_rate", "tokens_per_second", "memory_gb", "step_seconds", "held_out_loss"}
    # DeepSpeed tells no norm of the gradients in fp32 without ZeRO.
    expected |= {"grad_norm"} if fast_precision() == "bf16" else set()
    assert expected <= set(run.data.metrics)
    losses = MlflowClient(mlflow_server).get_metric_history(result["run_id"], "loss")
    assert [metric.step for metric in losses] == list(range(1, result["steps"] + 1))
    assert losses[-1].value < losses[0].value
    held_out = MlflowClient(mlflow_server).get_metric_history(result["run_id"], "held_out_loss")
    assert held_out[-1].value == pytest.approx(result["held_out_loss"])


def test_two_processes_learn_the_same_as_one(trainings, tmp_path):
    losses = []
    for processes in (1, 2):
        spec = copy_of(trainings(epochs=2, precision="fp32", processes=processes, zero_stage=2), processes)
        folder = tmp_path / f"{processes}"
        finish(start(spec, folder), folder, 69)
        partition, manifest, _ = model_of(spec)
        losses.append(losses_of(partition, manifest, tmp_path))
    # The loss is the mean over the answer tokens of the whole step, however they are spread.
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "lora", "lora_rank": 4, "trained_layers": 1, "zero_stage": 1},
        {"method": "lora", "lora_rank": 4, "zero_stage": 3, "offload": "all"},
        {"zero_stage": 2, "offload": "optimizer", "processes": 2},
        pytest.param({"method": "lora", "lora_rank": 4, "zero_stage": 0}, marks=pytest.mark.nightly),
        pytest.param({"trained_layers": 1, "rows_per_batch": 2, "zero_stage": 0}, marks=pytest.mark.nightly),
        pytest.param({"zero_stage": 3, "precision": "fp32"}, marks=pytest.mark.nightly),
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_each_way_of_training_leaves_a_model_that_loads_and_has_learned(trainings, tmp_path, settings, tiny_models):
    from transformers import AutoModelForCausalLM

    spec, folder = trainings(epochs=6, **{**settings, "learning_rate": 1e-2}), tmp_path / "attempt"
    finish(start(spec, folder), folder, 69)
    partition, manifest, _ = model_of(spec)
    names = {file.name for file in manifest.files}
    assert not any(name.endswith((".bin", ".pt", ".pth", ".pkl")) for name in names)
    assert ("adapter/adapter_model.safetensors" in names) is (settings.get("method") == "lora")
    assert str(tmp_path) not in "".join(
        (partition / file.path).read_text() for file in manifest.files if file.name.endswith("config.json")
    )
    losses = losses_of(partition, manifest, tmp_path)
    # Random layers that stay as they are leave little to learn with.
    frozen = settings.get("method") == "lora" or "trained_layers" in settings
    assert losses[-1] < (0.99 if frozen else 0.7) * losses[0]
    trained = AutoModelForCausalLM.from_pretrained(fetch_folder(partition, manifest, tmp_path) / "model")
    before = AutoModelForCausalLM.from_pretrained(tiny_models.random).state_dict()
    assert any(not weights.equal(before[name].to(weights.dtype)) for name, weights in trained.state_dict().items())


def test_a_loss_that_is_not_a_number_stops_the_training(trainings, tmp_path, tiny_models):
    import torch
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(tiny_models.random, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], torch.nan)
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    spec, folder = trainings().model_copy(update={"base_model": str(broken)}), tmp_path / "attempt"
    finish(start(spec, folder), folder, 65)
    assert "the loss is nan at step 1: training diverged; lower training.learning_rate" in (folder / "log").read_text()


def test_a_snapshot_whose_examples_are_all_too_long_is_bad_input(trainings, tmp_path):
    spec, folder = trainings(sequence_length=16), tmp_path / "long"
    finish(start(spec, folder), folder, 65)
    assert "are longer than training.sequence_length 16" in (folder / "log").read_text()
    assert not (UPath(spec.storage) / "app" / "models").exists()
