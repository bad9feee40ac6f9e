"""The version that a part of the stack was started from, so that it is restarted after an upgrade."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from nightshift.errors import BadEnvironment
from nightshift.settings.project import PACKAGE
from nightshift.stack.environment import mlflow_environment
from nightshift.stack.place import Place

# What long-running processes load once. DAG files are not among it: Airflow reads them again by itself.
LOADED = ("*.py", "*.jinja", "*.css", "*.js")


def packages() -> str:
    """Return the SHA-256 (hex) over the names and versions of all installed packages."""
    folder = Path(sysconfig.get_paths()["purelib"])
    return hashlib.sha256("\n".join(sorted(path.name for path in folder.glob("*.dist-info"))).encode()).hexdigest()


def packages_and_code(place: Place) -> str:
    """Return the SHA-256 (hex) over the packages, and the names and contents of the product's own files."""
    digest = hashlib.sha256(packages().encode())
    for path in _loaded(place):
        digest.update(f"\0{path}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def migrate_mlflow(place: Place) -> bool:
    """Bring MLflow's database up to the installed version, while no server runs; return whether it was another one's.

    A copy of the database lies beside it before anything is changed.

    :raises BadEnvironment: MLflow cannot migrate it; the text has the end of what it said.
    """
    database, stamp = place.home / "mlflow.db", place.home / "mlflow.version"
    old = stamp.read_text() if stamp.exists() else "an earlier version"
    if old == version("mlflow"):
        return False
    found = database.exists()
    if found:
        copy = database.with_name("mlflow.db.before-upgrade")
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{database}"]
        done = subprocess.run(command, env=mlflow_environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.copy(copy, database)
            tail = "\n".join(done.stderr.splitlines()[-10:])
            raise BadEnvironment(f"MLflow's database {database} could not be migrated, and is as it was:\n{tail}")
    stamp.write_text(version("mlflow"))
    return found


def _loaded(place: Place) -> Iterator[Path]:
    for folder in (PACKAGE, place.checkout / "plugins"):
        yield from sorted(path for pattern in LOADED for path in folder.rglob(pattern))
