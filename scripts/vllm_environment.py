"""Make the environment of vLLM's build for processors in `.venv-vllm` from its lock (`make environment-vllm`, 2.3 GB).

Its pins are others than those of `.venv`. The tests of the engine `vllm` use it where it is there.
"""

from __future__ import annotations

import os
import subprocess
import sys

from bootstrap import ROOT, Environment

FOLDER = ROOT / ".venv-vllm"
LOCK = ROOT / "docker" / "vllm" / "cpu.lock"


def main() -> int:
    """Install exactly the lock and return an exit code."""
    environment = Environment(ROOT)
    variables = {**os.environ, **environment.uv_variables()}
    uv, python = str(environment.uv), FOLDER / "bin" / "python"
    if not python.exists():
        command = [uv, "venv", "--quiet", "--python", sys.executable, str(FOLDER)]
        subprocess.run(command, env=variables, check=True)
    # A build of torch for processors that the user's pip settings know, or PyTorch's own index: the package index has none.
    backend = [] if variables.get("UV_FIND_LINKS") else ["--torch-backend=cpu"]
    command = [uv, "pip", "sync", "--python", str(python), *backend, str(LOCK)]
    return subprocess.run(command, env=variables, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
