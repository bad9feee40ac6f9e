"""Writes all lock files from the direct pins, with uv (`make lock`)."""

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
    """Compile the runtime lock, the development lock on top of it, and those of vLLM and of `deploy/`, whose pins are others."""
    environment = Environment(ROOT)
    follow = environment.uv_variables()
    _compile(environment, follow, "requirements.txt", "requirements.lock")
    _compile(environment, follow, "requirements-dev.txt", "requirements-dev.lock", "--constraints", "requirements.lock")
    _compile(
        environment,
        follow,
        "docker/vllm/cpu.txt",
        "docker/vllm/cpu.lock",
        "--overrides",
        "docker/vllm/cpu-overrides.txt",
    )
    _compile(environment, follow, "deploy/tools.txt", "deploy/tools.lock")
    # A build of torch for processors that this machine has at hand would leave CUDA's libraries out.
    follow.pop("UV_FIND_LINKS", None)
    _compile(environment, follow, "docker/vllm/cuda.txt", "docker/vllm/cuda.lock")
    return 0


def _compile(environment: Environment, follow: dict[str, str], source: str, target: str, *options: str) -> None:
    command = [
        *(str(environment.uv), "pip", "compile", "--quiet", "--python-version", "3.11", "--no-annotate"),
        *("--custom-compile-command", "make lock", *options, source, "--output-file", target),
    ]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **follow}, check=True)
    path = Path(ROOT, target)
    if not target.endswith("cuda.lock"):
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
