"""The first minute on a new machine: what can be wrong is said in words that help."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from bootstrap import (
    DEVELOPMENT_LOCK,
    HASHES,
    ROOT,
    RUNTIME_LOCK,
    CannotInstall,
    Environment,
    check_disk,
    check_python,
    check_writable,
)  # fmt: skip


def checkout(tmp_path: Path) -> Path:
    """A folder with what the installation reads."""
    root = tmp_path / "checkout"
    (root / "scripts").mkdir(parents=True)
    for name in (RUNTIME_LOCK, DEVELOPMENT_LOCK, HASHES, "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    for name in ("bootstrap.py", "pip_settings.py"):
        shutil.copy(ROOT / "scripts" / name, root / "scripts" / name)
    return root


@pytest.mark.parametrize("version", [(3, 10, 12), (3, 12, 1), (3, 13, 0)])
def test_another_python_is_refused_with_the_ways_to_get_the_right_one(version: tuple[int, ...]) -> None:
    with pytest.raises(CannotInstall) as refusal:
        check_python(version, "/usr/bin/python3")

    text = str(refusal.value)
    assert "needs Python 3.11" in text
    assert "/usr/bin/python3 is " + ".".join(map(str, version)) in text
    assert "apt-get install python3.11 python3.11-venv" in text


def test_a_full_disk_is_refused_before_anything_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(CannotInstall, match=r"GB are free on the disk of .*needs 1e\+09 GB"):
        check_disk(tmp_path, free_gb=1e9)


def test_a_read_only_folder_is_refused() -> None:
    with pytest.raises(CannotInstall, match="cannot be written"):
        check_writable(Path("/proc"))


@pytest.mark.slow
def test_without_a_network_the_message_says_so_and_what_pip_can_be_told(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    nowhere = "http://127.0.0.1:9/simple"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    environment |= {"PIP_INDEX_URL": nowhere, "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}

    run = subprocess.run(
        [sys.executable, "scripts/bootstrap.py"], cwd=root, env=environment, capture_output=True, text=True, check=False
    )

    assert run.returncode == 1
    assert "the package index cannot be reached" in run.stderr
    assert "HTTPS_PROXY" in run.stderr
    assert "Traceback" not in run.stderr
    assert (root / ".venv" / "nightshift-unfinished").exists()


def test_a_second_call_has_nothing_to_do_until_the_lock_changes(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    environment = Environment(root)
    environment.python.parent.mkdir(parents=True)
    environment.python.symlink_to(sys.executable)
    environment.stamp.write_text(json.dumps(environment.wanted(RUNTIME_LOCK)))

    assert environment.is_installed(RUNTIME_LOCK)
    environment.unfinished.touch()
    assert not environment.is_installed(RUNTIME_LOCK)
    environment.unfinished.unlink()
    (root / RUNTIME_LOCK).write_text("airflow==0\n")
    assert not environment.is_installed(RUNTIME_LOCK)


def test_every_package_of_the_locks_has_hashes_but_torch_whose_builds_are_elsewhere() -> None:
    pinned = re.findall(r"^[a-z].*==\S+", (ROOT / DEVELOPMENT_LOCK).read_text(), re.MULTILINE)
    hashed = re.findall(r"^(\S+==\S+) \\\n +--hash=sha256:[0-9a-f]{64}", (ROOT / HASHES).read_text(), re.MULTILINE)

    assert {re.sub(r"\[.*\]", "", pin) for pin in pinned} - {re.sub(r"\[.*\]", "", pin) for pin in hashed} == {
        pin for pin in pinned if pin.startswith("torch==")
    }


@pytest.mark.slow
def test_a_file_with_another_hash_is_refused_whoever_offers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root, wheels = checkout(tmp_path), tmp_path / "mirror" / "six"
    (pin,) = re.findall(r"^six==.*$", (ROOT / RUNTIME_LOCK).read_text(), re.MULTILINE)
    (root / RUNTIME_LOCK).write_text(f"{pin}\n")
    wheels.mkdir(parents=True)
    wheel = wheels / f"{pin.replace('==', '-')}-py2.py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        about = f"{pin.replace('==', '-')}.dist-info"
        archive.writestr("six.py", "harm = 1\n")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: six\nVersion: {pin.partition('==')[2]}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py2.py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    (wheels / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    environment = Environment(root)
    venv.create(environment.folder, symlinks=True)
    environment.uv.symlink_to(Path(sys.executable).parent / "uv")
    monkeypatch.setenv("UV_DEFAULT_INDEX", wheels.parent.as_uri())
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))

    with pytest.raises(CannotInstall):
        environment._install(RUNTIME_LOCK, "cuda")
    assert "Hash mismatch" in capfd.readouterr().err

    (root / HASHES).write_text(f"{pin} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    environment._install(RUNTIME_LOCK, "cuda")
    assert list(environment.folder.glob("lib/*/site-packages/six.py"))
