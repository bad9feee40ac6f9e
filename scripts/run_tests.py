"""Runs the test tiers one after the other and says at the end what each took against its budget.

The reports (every test with its seconds, as JUnit XML, and the table of the tiers) land in build/tests/.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from processor_speed import PROCESSORS, slowness
from processor_time import Measured, measure

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "build" / "tests"


@dataclass(frozen=True)
class Tier:
    """A part of the tests. Its budget is in processor seconds, which other users of the machine change little."""

    marks: str
    what: str
    budget: int
    options: tuple[str, ...] = ()


# What each tier may take on the two processors of processor_speed.py; a slower machine's budget is scaled.
# More processes than these would only import the packages more often. Each begins with an unbroken half of the quick
# tests, so that what a file's tests share is made once. Files stay whole where they share servers and models; in the
# end-to-end tier one process tells the sample's story while the other runs the rest, since a stack is mostly waited for.
TIERS = {
    "unit": Tier(
        "not (slow or e2e or kubernetes or benchmark or nightly)",
        "the quick tests",
        450,
        ("-n", str(PROCESSORS), "--dist", "worksteal"),
    ),
    "slow": Tier(
        "slow and not (e2e or kubernetes or benchmark or nightly)",
        "real models, whole reports, killed processes",
        2000,
        ("-n", "2", "--dist", "loadfile"),
    ),
    "e2e": Tier(
        "e2e and not (kubernetes or benchmark or nightly)",
        "the real scheduler and MLflow server",
        2400,
        ("-n", "2", "--dist", "loadfile"),
    ),
    "kubernetes": Tier("kubernetes", "pods in the cluster of the kubeconfig", 2400),
    "nightly": Tier(
        "nightly and not (kubernetes or benchmark)",
        "the full sample and every kill",
        5400,
        ("--timeout", "3600"),
    ),
    "benchmark": Tier(
        "benchmark and not kubernetes",
        "comparisons with what you would use instead",
        5400,
        ("-s", "--timeout", "3600"),
    ),
}
# A run whose tier takes so many times its budget fails.
TOO_MUCH = 1.5
SLOWEST = 20
NO_TESTS = 5


@dataclass(frozen=True)
class Outcome:
    """What a tier took; `budget` is None where only some of its tests were chosen."""

    tier: str
    measured: Measured
    budget: float | None

    @property
    def passed(self) -> bool:
        """Whether the tests passed."""
        return self.measured.code in (0, NO_TESTS) and not self.measured.interrupted

    @property
    def too_slow(self) -> bool:
        """Whether the budget was exceeded by so much that the run fails."""
        return self.budget is not None and self.measured.processor_seconds > TOO_MUCH * self.budget

    @property
    def failed(self) -> bool:
        """Whether this tier fails the run."""
        return not self.passed or self.too_slow

    @property
    def row(self) -> str:
        """The tier's line of the table."""
        result = ("too slow" if self.too_slow else "passed") if self.passed else "FAILED"
        if self.measured.code == NO_TESTS:
            result = "no tests"
        budget = "none" if self.budget is None else f"{self.budget:.0f}"
        seconds = self.measured.processor_seconds
        return (
            f"| {self.tier:<10} | {result:<8} | {seconds:>17.0f} | {budget:>6} | {self.measured.wall_seconds:>12.0f} |"
        )

    @property
    def notes(self) -> list[str]:
        """What a person should look at."""
        notes = []
        seconds = self.measured.processor_seconds
        if self.budget is not None and seconds > self.budget:
            over = f"{self.tier} took {seconds:.0f} processor seconds, {100 * (seconds / self.budget - 1):.0f} % over"
            limit = f"its budget of {self.budget:.0f}; more than {100 * (TOO_MUCH - 1):.0f} % over fails the run"
            notes.append(f"{'ERROR' if self.too_slow else 'WARNING'} {over} {limit}")
        notes += [
            f"WARNING {self.tier} left a process behind, which was ended: {process}"
            for process in self.measured.left_behind
        ]
        return notes


def main(arguments: list[str] | None = None) -> int:
    """Run the tiers that were named and return 0 when all passed within their budgets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tiers", nargs="+", choices=TIERS)
    parser.add_argument("--only", nargs="+", default=[], metavar="PATH", help="only these tests, without a budget")
    chosen = parser.parse_args(arguments)
    REPORTS.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    for tier in chosen.tiers:
        outcomes.append(run(tier, chosen.only))
        if outcomes[-1].measured.interrupted:
            break
    print("\n=== what they took (budgets scaled by the speed of this machine around each tier) ===")
    text = table(outcomes)
    (REPORTS / "table.md").write_text(text)
    print(text, end="", flush=True)
    return 1 if any(outcome.failed for outcome in outcomes) else 0


def run(tier: str, only: list[str]) -> Outcome:
    """Run the tests of one tier under a heading. Its budget is that of the slower of the moments before and after it."""
    print(f"\n=== {tier}: {TIERS[tier].what} ===", flush=True)
    before = slowness()
    report = REPORTS / f"{tier}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-m", TIERS[tier].marks, *TIERS[tier].options]
    command += [f"--durations={SLOWEST}", f"--junit-xml={report}", *only]
    # Waiting threads of OpenMP would otherwise burn the processors that the servers under test need.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    measured = measure(command, ROOT, environment)
    return Outcome(tier, measured, None if only else TIERS[tier].budget * max(before, slowness()))


def table(outcomes: list[Outcome]) -> str:
    """Return what each tier took against its budget, for people and for Markdown, and what to look at."""
    lines = [
        "| tier       | result   | processor seconds | budget | wall seconds |",
        "| ---------- | -------- | ----------------: | -----: | -----------: |",
        *(outcome.row for outcome in outcomes),
    ]
    notes = [note for outcome in outcomes for note in outcome.notes]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
