"""What stands in the way of the local stack is named, with the variable that goes around it."""

import os
import re
import socket
from pathlib import Path

import pytest
from upath import UPath

from nightshift.errors import BadEnvironment
from nightshift.stack.place import this_place
from nightshift.stack.preflight import check_disk, check_port, check_storage, make_folders
from nightshift.storage.files import create, default_storage


def test_a_port_in_use_is_named_with_its_process_and_a_free_one_is_proposed() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(BadEnvironment) as refusal:
            check_port(port, "NIGHTSHIFT_MLFLOW_PORT", "MLflow")

    text = str(refusal.value)
    assert f"port {port}, where MLflow should listen" in text
    assert f"process {os.getpid()}" in text
    proposed = re.search(r"NIGHTSHIFT_MLFLOW_PORT=(\d+)", text)
    assert proposed
    check_port(int(proposed[1]), "NIGHTSHIFT_MLFLOW_PORT", "MLflow")


def test_too_little_disk_is_refused_with_the_way_to_another(tmp_path: Path) -> None:
    with pytest.raises(BadEnvironment, match="NIGHTSHIFT_HOME="):
        check_disk(tmp_path, free_gb=1e9)
    check_disk(tmp_path, free_gb=0)


def test_storage_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(BadEnvironment, match="NIGHTSHIFT_STORAGE"):
        check_storage((tmp_path / "file" / "storage").as_uri())
    check_storage((tmp_path / "storage").as_uri())
    assert list((tmp_path / "storage").iterdir()) == []


def test_a_home_that_cannot_be_made_is_refused() -> None:
    place = this_place({"NIGHTSHIFT_HOME": "/proc/nightshift"})

    with pytest.raises(BadEnvironment, match="NIGHTSHIFT_HOME="):
        make_folders(place)


def test_a_home_with_a_space_or_a_hash_in_its_path_holds_its_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "the #1 home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("NIGHTSHIFT_STORAGE", raising=False)
    for storage in (this_place({"NIGHTSHIFT_HOME": str(home / ".nightshift")}).storage, default_storage()):
        create(UPath(storage) / "row", b"1")
        (home / ".nightshift" / "storage" / "row").unlink()


@pytest.mark.parametrize("port", ["http", "0", "70000", "-1"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(BadEnvironment, match="NIGHTSHIFT_AIRFLOW_PORT"):
        this_place({"NIGHTSHIFT_AIRFLOW_PORT": port})


def test_both_servers_on_one_port_are_refused() -> None:
    with pytest.raises(BadEnvironment, match="different ports"):
        this_place({"NIGHTSHIFT_AIRFLOW_PORT": "5000"})


def test_outside_a_checkout_the_stack_says_that_it_needs_one(tmp_path: Path) -> None:
    with pytest.raises(BadEnvironment, match="checkout"):
        this_place({}, checkout=tmp_path)


def test_a_folder_that_somebody_else_made_keeps_its_mode_and_a_new_one_is_for_this_user_alone(tmp_path: Path) -> None:
    given, new = tmp_path / "given", tmp_path / "new"
    given.mkdir()
    given.chmod(0o755)
    for folder, mode in ((given, 0o755), (new, 0o700)):
        make_folders(this_place({"NIGHTSHIFT_HOME": str(folder)}))
        assert folder.stat().st_mode & 0o777 == mode
