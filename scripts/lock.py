"""Writes `requirements.lock` and `requirements-dev.lock` from the direct pins, with uv (`make lock`)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from bootstrap import ROOT, Environment

# DeepSpeed imports nvidia-ml-py on every machine.
CUDA_ONLY = re.compile(r"(nvidia-(?!ml-py)|cuda-|triton==)")


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
    path.write_text(for_every_build(path.read_text()))
    print(f"{target}: {sum('==' in line for line in path.read_text().splitlines())} packages")


def for_every_build(lock: str) -> str:
    """Return a lock that fits the CPU and the CUDA builds of torch alike, whichever of them it was compiled with.

    The plain version of torch is satisfied by every build of it; what only the CUDA build needs is resolved when that
    build is installed.
    """
    lines = [line for line in lock.splitlines(keepends=True) if not CUDA_ONLY.match(line)]
    return re.sub(r"\+(cpu|cu\d+)$", "", "".join(lines), flags=re.MULTILINE)


if __name__ == "__main__":
    sys.exit(main())
