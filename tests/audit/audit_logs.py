"""Audit logs as collections leave them: what the tests of the audit work on."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nightshift.audit.anchor import AnchorFiles
from nightshift.audit.anchoring import anchor_everywhere
from nightshift.audit.chain import Chain
from nightshift.audit.entry import AuditEvent
from nightshift.audit.memory import AirflowMemory
from nightshift.audit.signature import public_key_of, signing_key

NOW = datetime(2026, 11, 24, 6, tzinfo=UTC)
KEY, OTHER_KEY = (signing_key(text) for text in (f"{'A' * 43}=", f"{'E' * 43}="))
PUBLIC, OTHER_PUBLIC = public_key_of(KEY), public_key_of(OTHER_KEY)


def event(number, *, at=NOW, source="airflow", **fields):
    """The event of this number: somebody ran a DAG."""
    told = {
        "who": "alice", "did": "ran a DAG", "application": "shop", "to": {"dag": "shop_finetune", "run": f"manual__{number}"},
        "details": {"conf": {"epochs": number}}, "source_id": f"event {number}", **fields,
    }  # fmt: skip
    return AuditEvent(at=at, source=source, **told)


def written(storage, sizes=(3, 1, 2)):
    """A log of so many events in each collection, a minute apart."""
    chain, number = Chain(storage), 0
    for minute, size in enumerate(sizes):
        moment = NOW + timedelta(minutes=minute)
        chain.append("airflow", [event(number + i, at=moment) for i in range(size)], moment)
        number += size
    return chain


def files_of(storage_folder):
    """The files of a log in a local folder, in order."""
    return sorted((storage_folder / "audit").rglob("*.jsonl"))


def place(folder):
    """A place of the user's for anchors."""
    return AnchorFiles(folder.as_uri())


def memory(variables):
    """What Airflow remembers, with its variables in a dictionary."""
    return AirflowMemory(lambda: variables.get("newest"), lambda value: variables.update(newest=value))


def anchor_end(chain, place, now, key=None):
    """Anchor a log in one place, and return the number of the anchored entry."""
    (number,) = anchor_everywhere(chain, place, [], now, key).values()
    return number


def run_until(code, storage_folder, files=None):
    """Run Python code on a log in a process, and kill it when the log has so many files; return its exit code."""
    command = [sys.executable, "-c", code, storage_folder.as_uri()]
    place = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": place}) as process:
        while files and process.poll() is None:
            if len(files_of(storage_folder)) >= files:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.001)
    return process.returncode
