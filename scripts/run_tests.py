"""Runs the test tiers one after the other, each under a heading, and says at the end what each took."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIERS = {
    "unit": ("not slow and not e2e and not kubernetes and not benchmark", "the quick tests", 60),
    "slow": (
        "slow and not e2e and not kubernetes and not benchmark",
        "real models, whole reports, killed processes",
        900,
    ),
    "e2e": ("e2e and not kubernetes and not benchmark", "the real scheduler and MLflow server", 900),
    "kubernetes": ("kubernetes", "pods in the cluster of the kubeconfig", 2400),
}
# Each file of slow tests stays in one process, with the servers and models that its tests share.
PROCESSES = {"unit": ["-n", "auto"], "slow": ["-n", "2", "--dist", "loadfile"]}
NO_TESTS = 5


def main() -> int:
    """Run the tiers that were named and return 0 when all passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tiers", nargs="+", choices=TIERS)
    outcomes: list[tuple[str, int, float]] = []
    # Waiting threads of OpenMP would otherwise burn the processors that the servers under test need.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    for tier in parser.parse_args().tiers:
        marks, what, _ = TIERS[tier]
        print(f"\n=== {tier}: {what} ===", flush=True)
        started = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-m", marks, *PROCESSES.get(tier, [])]
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        outcomes.append((tier, 0 if code == NO_TESTS else code, time.monotonic() - started))
        if code == NO_TESTS:
            print(f"no test is marked {tier}", flush=True)
    print("\n=== what they took ===")
    for tier, code, seconds in outcomes:
        allowed = TIERS[tier][2]
        late = f"   over its budget of {allowed} s" if seconds > allowed else ""
        print(f"{tier:<6} {'passed' if code == 0 else 'FAILED'} in {seconds:.0f} s{late}")
    return 1 if any(code for _, code, _ in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
