"""What a training on preferences starts from: the champion's weights, and never twice on the same pairs from its own."""

import pytest
from training_runs import APPLICATION
from upath import UPath

from nightshift.errors import BadInput
from nightshift.jobs.train import Spec
from nightshift.jobs.train_plan import shards_of, start_folder, started_from
from nightshift.registry import models
from nightshift.settings.training import Training
from nightshift.storage.application_version import Parts, publish_version
from nightshift.storage.partition import Parent, partition_of, publish


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


def test_it_starts_from_the_champion_or_from_the_base_model_where_there_is_none(
    spec, crown, publish_model, tiny_models, tmp_path, monkeypatch
):
    monkeypatch.setattr(models, "with_alias", lambda _name, _alias: None)
    base = UPath(tiny_models.random)
    assert started_from(spec) is None
    assert start_folder(base, None, tmp_path / "start") == base
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
