"""What a training on preferences starts from: the champion's weights, and never twice on the same pairs from its own."""

import signal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from training_runs import APPLICATION, finish, metrics_of, model_of, start
from upath import UPath

from nightshift.data.examples import EXAMPLE_SCHEMA
from nightshift.errors import BadInput
from nightshift.jobs.train_contract import Spec
from nightshift.jobs.train_plan import shards_of, start_folder, started_from
from nightshift.registry import models
from nightshift.settings.training import Training
from nightshift.storage.application_version import Parts, publish_version
from nightshift.storage.manifest import Parent
from nightshift.storage.partition import partition_of, publish


@pytest.fixture
def spec(storage, snapshot, tiny_models):
    partition, manifest = snapshot
    return Spec(
        application=APPLICATION, storage=storage, snapshot=str(partition), digest=manifest.digest,
        base_model=tiny_models.random, training=Training(recipe="dpo"),
    )  # fmt: skip


@pytest.fixture
def crown(monkeypatch, storage):
    """A function that makes a version of these weights the champion, without a registry."""

    def crowned(weights):
        partition, manifest = publish_version(APPLICATION, storage, Parts.of(APPLICATION, weights))
        champion = type("Champion", (), {"model": str(partition), "digest": manifest.digest})
        monkeypatch.setattr(models, "with_alias", lambda _name, _alias: champion)

    return crowned


@pytest.fixture
def no_champion(monkeypatch):
    monkeypatch.setattr(models, "with_alias", lambda _name, _alias: None)


def test_without_a_champion_it_starts_from_the_base_model(spec, no_champion, tmp_path):
    assert started_from(spec) is None
    assert start_folder(tmp_path, None, tmp_path / "start") == tmp_path


def test_it_starts_from_the_champion_but_a_fine_tuning_does_not(spec, crown, publish_model, tiny_models, tmp_path):
    base = UPath(tiny_models.random)
    partition, manifest = publish_model(tiny_models.trained)
    weights = Parent(uri=str(partition), digest=manifest.digest)
    crown(weights)
    assert started_from(spec) == weights
    assert (start_folder(base, weights, tmp_path / "start") / "model.safetensors").is_file()
    assert started_from(spec.model_copy(update={"training": Training()})) is None


def test_a_champion_that_learned_preferences_is_trained_again_from_what_it_began_as(spec, crown, storage, tmp_path):
    began = Parent(uri="file:///weights", digest="0" * 64)
    for place, started in enumerate([began, None]):
        (tmp_path / f"{place}").mkdir()
        partition = partition_of(storage, "app", "models", f"dpo{place}")
        manifest = publish(
            partition, tmp_path / f"{place}", kind="model", application="app",
            inputs={"training": {"recipe": "dpo"}, "place": place},
            facts={"started_from": started and started.model_dump()},
        )  # fmt: skip
        crown(Parent(uri=str(partition), digest=manifest.digest))
        assert started_from(spec) == started


def test_a_snapshot_without_pairs_is_refused_by_the_training_itself(spec, tiny_models, tmp_path):
    shards = shards_of(spec, UPath(tiny_models.random), tmp_path)
    with pytest.raises(BadInput, match="0 training and 0 held-out preference pairs; both are needed"):
        _ = shards.parts


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize(("recipe", "learned"), [("dpo", 40), ("kto", 80)])
def test_the_command_learns_from_pairs_and_goes_on_where_it_was_killed(  # noqa: PLR0917
    storage, trainings, snapshot, mlflow_server, tmp_path, recipe, learned
):
    planted, manifest = snapshot
    folder = tmp_path / "pairs"
    folder.mkdir()
    for name in ("train", "held_out"):
        rows = pq.read_table((planted / manifest.file(f"{name}.parquet").path).path).to_pylist()
        rejected = {"role": "assistant", "content": "I cannot tell"}
        pairs = [{**row, "rejected": rejected, "split": name, "metadata": []} for row in rows]
        schema = pa.schema([EXAMPLE_SCHEMA.field(column) for column in pairs[0]])
        pq.write_table(pa.Table.from_pylist(pairs, schema), folder / f"{name}.parquet")
    pairs = partition_of(storage, "app", "snapshots", "pairs")
    made = publish(pairs, folder, kind="snapshot", application="app", inputs={"planted": 2})
    spec = trainings(recipe=recipe, epochs=4, checkpoint_steps=5, evaluate_steps=5, learning_rate=3e-3)
    spec = spec.model_copy(update={"snapshot": str(pairs), "digest": made.digest})

    attempt = tmp_path / "attempt"
    published = ("nightshift.training.checkpoints", "drop", 1)
    finish(start(spec, attempt, dies_at=published, mlflow=mlflow_server), attempt, -signal.SIGKILL)
    finish(start(spec, attempt, mlflow=mlflow_server), attempt, 0)
    assert "going on from the checkpoint of step" in (attempt / "log").read_text()
    partition, manifest, _ = model_of(spec)
    assert manifest.counts["train_examples"] == learned
    assert manifest.facts["started_from"] is None
    assert manifest.facts["fitted"]["held_out_accuracy"] > 0.9
    steps = [line["metrics"] for line in metrics_of(partition, manifest, tmp_path) if "loss" in line["metrics"]]
    assert steps[-1]["reward_margin"] > steps[0]["reward_margin"] == pytest.approx(0, abs=0.05)
