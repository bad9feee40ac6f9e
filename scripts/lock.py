"""Writes all lock files from the direct pins, and the hashes of what they name, with uv (`make lock`)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from bootstrap import DEVELOPMENT_LOCK, HASHES, ROOT, Environment

# DeepSpeed imports nvidia-ml-py on every machine.
CUDA_ONLY = re.compile(r"(nvidia-(?!ml-py)|cuda-|triton==)")


def main() -> int:
    """Compile the runtime lock, the development lock on top of it, and those of vLLM and of `deploy/`, whose pins are others."""
    environment = Environment(ROOT)
    follow = environment.uv_variables()
    _compile(environment, follow, "requirements.txt", "requirements.lock")
    _compile(environment, follow, "requirements-dev.txt", "requirements-dev.lock", "--constraints", "requirements.lock")
    _compile_hashes(environment)
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


def _compile_hashes(environment: Environment) -> None:
    """Write the hashes of all files that PyPI has of the development lock, but of torch: its CPU builds are elsewhere.

    In a file of their own, as constraints, because pip wants a hash for all or for none, and CUDA's libraries come with torch.
    A `uv.lock` would hold them too, and the addresses of one index, where a machine that reaches only a mirror gets nothing.
    """
    command = [str(environment.uv), "pip", "compile", "--quiet", "--no-config", "--no-deps", "--generate-hashes"]
    command += ["--python-version", "3.11", "--no-annotate", "--no-header", DEVELOPMENT_LOCK]
    elsewhere = ("UV_", "PIP_")  # a mirror may have some of the files only
    variables = {name: value for name, value in os.environ.items() if not name.startswith(elsewhere)}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
    path = Path(ROOT, HASHES)
    path.write_text(re.sub(r"^torch==.*\\\n(?: +--hash=.*\n)+", "", done.stdout, flags=re.MULTILINE))
    print(f"{HASHES}: {path.read_text().count('--hash=')} files")


def for_every_build(lock: str) -> str:
    """Return a lock that fits the CPU and the CUDA builds of torch alike, whichever of them it was compiled with.

    The plain version of torch is satisfied by every build of it; what only the CUDA build needs is resolved when that
    build is installed.
    """
    lines = [line for line in lock.splitlines(keepends=True) if not CUDA_ONLY.match(line)]
    return re.sub(r"\+(cpu|cu\d+)$", "", "".join(lines), flags=re.MULTILINE)


if __name__ == "__main__":
    sys.exit(main())
