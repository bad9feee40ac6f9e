"""Writes `requirements.lock` and `requirements-dev.lock` from the direct pins, with uv (`make lock`)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from bootstrap import ROOT, Environment


def main() -> int:
    """Compile the runtime lock, then the development lock on top of it."""
    environment = Environment(ROOT)
    _compile(environment, "requirements.txt", "requirements.lock")
    _compile(environment, "requirements-dev.txt", "requirements-dev.lock", "--constraints", "requirements.lock")
    return 0


def _compile(environment: Environment, source: str, target: str, *options: str) -> None:
    command = [
        *(str(environment.uv), "pip", "compile", "--quiet", "--python-version", "3.11", "--no-annotate"),
        *("--custom-compile-command", "make lock", *options, source, "--output-file", target),
    ]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **environment.uv_variables()}, check=True)
    path = Path(ROOT, target)
    # `torch==2.13.0+cpu` exists on some indexes only; the plain version is satisfied by every build of it.
    path.write_text(re.sub(r"\+cpu$", "", path.read_text(), flags=re.MULTILINE))
    print(f"{target}: {sum('==' in line for line in path.read_text().splitlines())} packages")


if __name__ == "__main__":
    sys.exit(main())
