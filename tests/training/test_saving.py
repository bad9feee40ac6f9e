"""Checkpoints are stored while training goes on; what is not whole does not exist, and no failure is lost."""

import multiprocessing
import os
import signal
import threading

import pytest
import torch
from upath import UPath

from nightshift.training.checkpoints import Checkpoints
from nightshift.training.saving import Saving

INPUTS = {"snapshot": "a"}


class Gated(Checkpoints):
    """Checkpoints whose uploads begin when a gate opens, as those to a slow store end late."""

    gate = threading.Event()

    def upload(self, *arguments):
        self.gate.wait(20)
        return super().upload(*arguments)


@pytest.fixture
def root(tmp_path):
    return UPath((tmp_path / "storage").as_uri())


def saving(checkpoints):
    return Saving(checkpoints, rank=0, local_rank=0, world=1, device=torch.device("cpu"))


def written(tmp_path, step):
    folder = tmp_path / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "states.pt").write_bytes(b"state of %d" % step)
    return folder


def newest(root, tmp_path):
    checkpoint = Checkpoints(root, "app", INPUTS).newest(tmp_path / "copy")
    return checkpoint.step if checkpoint else None


def test_training_goes_on_while_a_checkpoint_is_uploaded(root, tmp_path):
    checkpoints = Gated(root, "app", INPUTS)
    checkpoints.gate = threading.Event()
    one = saving(checkpoints)
    one.begin(written(tmp_path, 5), 5)
    for _ in range(3):
        assert not one.look()
    assert one.look(stop=True), "a stop is heard meanwhile"
    assert newest(root, tmp_path) is None
    checkpoints.gate.set()
    one.wait()
    assert newest(root, tmp_path) == 5


def test_the_next_one_waits_for_the_one_before_and_the_end_for_all(root, tmp_path):
    one = saving(Checkpoints(root, "app", INPUTS))
    for step in (5, 10, 15):
        one.begin(written(tmp_path, step), step)
    one.wait()
    assert newest(root, tmp_path) == 15
    assert sorted(path.name for path in root.iterdir()) == ["step-000010", "step-000015"]
    one.wait()


def test_an_upload_that_fails_fails_the_training(root, tmp_path):
    one = saving(Checkpoints(UPath((tmp_path / "storage" / "file").as_uri()), "app", INPUTS))
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage" / "file").write_text("no folder")
    one.begin(written(tmp_path, 5), 5)
    with pytest.raises(OSError, match="file"):
        one.wait()


def test_an_upload_without_end_is_given_up(root, tmp_path, monkeypatch):
    from nightshift.errors import BadEnvironment

    monkeypatch.setattr("nightshift.training.saving.UPLOAD_SECONDS", 0)
    checkpoints = Gated(root, "app", INPUTS)
    checkpoints.gate = threading.Event()
    one = saving(checkpoints)
    one.begin(written(tmp_path, 5), 5)
    with pytest.raises(BadEnvironment, match="step 5 was not uploaded"):
        one.wait()
    checkpoints.gate.set()


def test_killed_during_an_upload_the_one_before_is_resumed_from(root, tmp_path):
    one = saving(Checkpoints(root, "app", INPUTS))
    one.begin(written(tmp_path, 5), 5)
    one.wait()
    child = multiprocessing.get_context("fork").Process(
        target=_dies_while_it_uploads, args=(root, written(tmp_path, 10))
    )
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    assert list((root / "step-000010").iterdir()), "a part of it is there"
    assert newest(root, tmp_path) == 5


def _dies_while_it_uploads(root, folder):
    (folder / "zzz").write_bytes(b"the second file")
    from nightshift.storage import partition

    kept, calls = partition.put, []

    def put(*arguments):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        kept(*arguments)

    partition.put = put
    one = saving(Checkpoints(root, "app", INPUTS))
    one.begin(folder, 10)
    one.wait()
