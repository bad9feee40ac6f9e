"""The commands of docs/backup.md, run as they stand there: what comes back into an empty folder is what was there."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from audit_logs import KEY, NOW, anchor_end, place
from stored_states import ARCHIVES, unpack

from nightshift.audit.chain import Chain
from nightshift.audit.ledger_events import events_of_ledger
from nightshift.dashboard.application import gather
from nightshift.settings.applications import load_application
from nightshift.stack.place import CHECKOUT

pytestmark = pytest.mark.slow

BACK_UP, RESTORE = re.findall(r"```sh\n(.*?)```", (CHECKOUT / "docs" / "backup.md").read_text(), re.DOTALL)
FACTS = ("state", "models", "trend", "why", "decisions", "open_alerts", "reports")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home of a local stack with a stored state, an audit log of it, and keys."""
    state = unpack(ARCHIVES[-1], tmp_path / "state")
    home = tmp_path / "nightshift"
    (home / "airflow" / "logs").mkdir(parents=True)
    shutil.copytree(state.folder / "bucket" / state.name / "storage", home / "storage")
    for kept, at in (("airflow.db", "airflow/airflow.db"), ("mlflow.db", "mlflow.db"), ("artifacts", "artifacts")):
        shutil.move(state.folder / kept, home / at)
    (home / "airflow" / "logs" / "long.log").write_text("a task's words")
    for secret in ("keys.json", "passwords.json"):
        (home / secret).write_text("{}")
        (home / secret).chmod(0o600)
    for name, value in {"PROJECT": state.folder, "HOME": home, "STORAGE": (home / "storage").as_uri()}.items():
        monkeypatch.setenv(f"NIGHTSHIFT_{name}", str(value))
    return home


@pytest.fixture
def run(home, tmp_path):
    """Run commands of the page."""
    variables = {
        **os.environ,
        "BACKUP": str(tmp_path / "backup.tar.gz"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }

    for name in [name for name in variables if name.startswith("MLFLOW_")]:
        del variables[name]  # of another test's server

    def ran(commands, code=0):
        done = subprocess.run(["bash", "-euc", commands], env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return ran


def facts(home):
    """What the application's page shows of storage."""
    page = gather(load_application("helper"), (home / "storage").as_uri(), may_see_runs=False)
    return {name: getattr(page, name) for name in FACTS}


def files(home):
    """Mode and content of every file, but of logs."""
    return {
        str(path.relative_to(home)): (path.stat().st_mode, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in home.rglob("*")
        if path.is_file() and "logs" not in path.relative_to(home).parts
    }


def test_what_was_backed_up_comes_back_and_the_audit_log_verifies(home, run, tmp_path):
    storage, anchors = (home / "storage").as_uri(), tmp_path / "anchors"
    chain = Chain(storage)
    chain.append("ledger", events_of_ledger(storage, "helper", None), NOW)
    anchor_end(chain, place(anchors), NOW, KEY)
    before, kept = facts(home), files(home)
    assert before["state"].reason
    assert before["models"].shown.champion.version == "1"
    run(BACK_UP)
    assert (tmp_path / "backup.tar.gz").stat().st_mode & 0o077 == 0
    shutil.rmtree(home)
    run(RESTORE)
    assert files(home) == kept
    assert not (home / "airflow" / "logs").exists()
    assert facts(home) == before
    verify = f"nightshift audit verify --storage {storage} --anchor {anchors.as_uri()}"
    assert run(verify).splitlines()[-1] == "verified"
    # It would be found out if something of it were not there.
    next((home / "storage" / "audit").rglob("*.jsonl")).unlink()
    assert run(verify, code=1).splitlines()[-1] == "tampered"
