"""Checkpoints: the newest whole one is resumed from, a damaged one never, and old ones go."""

import json

import pytest
from upath import UPath

from nightshift.storage.manifest import MANIFEST
from nightshift.training.checkpoints import Checkpoints, history

INPUTS = {"snapshot": "a", "training": {"seed": 1}}


@pytest.fixture
def root(tmp_path):
    return UPath((tmp_path / "storage").as_uri()) / "app" / "checkpoints" / "0123"


def written(tmp_path, step):
    folder = tmp_path / f"checkpoint-{step}"
    (folder / f"global_step{step}").mkdir(parents=True)
    (folder / f"global_step{step}" / "states.pt").write_bytes(b"state of %d" % step)
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": [{"step": step, "metrics": {"loss": 1.0}}]}))
    return folder


@pytest.fixture
def three(root, tmp_path):
    checkpoints = Checkpoints(root, "app", INPUTS)
    for step in (5, 10, 15):
        checkpoints.publish(checkpoints.upload(written(tmp_path, step), step, "attempt"), step, processes=1)
    return checkpoints


def steps(root):
    return sorted(path.name for path in root.iterdir())


def test_the_newest_is_resumed_from_and_two_are_kept(three, root, tmp_path):
    folder = three.newest(tmp_path / "copy").folder
    assert (folder / "global_step15" / "states.pt").read_bytes() == b"state of 15"
    assert history(folder) == [{"step": 15, "metrics": {"loss": 1.0}}]
    assert steps(root) == ["step-000010", "step-000015"]


def test_it_tells_what_was_decided_for_the_training_that_wrote_it(root, tmp_path):
    checkpoints = Checkpoints(root, "app", INPUTS, {"method": "lora", "learning_rate": 2e-4})
    checkpoints.publish(checkpoints.upload(written(tmp_path, 5), 5, "attempt"), 5, processes=2)
    newest = Checkpoints(root, "app", INPUTS).newest(tmp_path / "copy")
    assert (newest.processes, newest.training) == (2, {"method": "lora", "learning_rate": 2e-4})


def test_one_without_manifest_is_not_seen(three, root, tmp_path):
    (root / "step-000015" / MANIFEST).unlink()
    assert (three.newest(tmp_path / "copy").folder / "global_step10").exists()


def test_a_damaged_one_gives_way_to_the_one_before(three, root, tmp_path):
    (file,) = (root / "step-000015").glob("*/global_step15/states.pt")
    file.write_bytes(b"a pickle from elsewhere")
    assert (three.newest(tmp_path / "copy").folder / "global_step10").exists()


def test_one_of_other_inputs_is_never_used(three, root, tmp_path):
    assert Checkpoints(root, "app", {**INPUTS, "snapshot": "b"}).newest(tmp_path / "copy") is None


def test_once_the_model_is_published_none_is_left(three, root, tmp_path):
    three.drop_all()
    assert steps(root) == []
    assert three.newest(tmp_path / "copy") is None


def test_without_any_there_is_nothing_to_resume_from(root, tmp_path):
    assert Checkpoints(root, "app", INPUTS).newest(tmp_path / "copy") is None


def test_what_another_process_dropped_meanwhile_is_no_trouble(bucket, tmp_path):
    import boto3

    root = UPath(f"{bucket}/app/checkpoints/{tmp_path.name}")
    checkpoints = Checkpoints(root, "app", INPUTS)
    for step in (5, 10):
        checkpoints.publish(checkpoints.upload(written(tmp_path, step), step, "attempt"), step, processes=1)
    assert checkpoints.newest(tmp_path / "copy").step == 10
    store = boto3.resource("s3").Bucket(bucket.removeprefix("s3://"))
    store.objects.filter(Prefix=f"app/checkpoints/{tmp_path.name}/step-000005").delete()
    checkpoints.drop_all()
    assert not list(store.objects.filter(Prefix=f"app/checkpoints/{tmp_path.name}"))
