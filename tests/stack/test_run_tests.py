"""The runner of the tests: each test belongs to one tier, and a tier that takes too long fails."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from processor_speed import REFERENCE_SECONDS, scale
from processor_time import Measured
from run_tests import NO_TESTS, ROOT, TIERS, Outcome, table

# Starts a process that leaves the session and loses its parent, as a server of the stack does, and waits for its file.
LAUNCHER = """
import os, subprocess, sys, time
from pathlib import Path
server, started = sys.argv[1], Path(sys.argv[2])
go = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', *sys.argv[1:]], start_new_session=True)"
subprocess.run([sys.executable, "-c", go, server, str(started)], check=True, stdout=subprocess.DEVNULL)
while not started.exists():
    time.sleep(0.02)
sys.exit(3)
"""
BURN = "import os, sys, time\nwhile time.process_time() < 0.8: pass\nopen(sys.argv[1], 'w').write(str(os.getpid()))\n"
STAY = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + BURN + "time.sleep(60)\n"
MEASURE = """
import dataclasses, json, os, sys
import processor_time
processor_time.GRACE_SECONDS = float(sys.argv.pop(1))
print(json.dumps(dataclasses.asdict(processor_time.measure(sys.argv[1:], os.curdir, os.environ))))
"""


def measured(folder: Path, server: str, grace_seconds: float) -> Measured:
    """What the runner says of a command that starts `server`; in a process of its own, as it adopts orphans."""
    command = [sys.executable, "-c", MEASURE, str(grace_seconds)]
    command += [sys.executable, "-c", LAUNCHER, server, str(folder / "started")]
    run = subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": str(ROOT / "scripts")}, capture_output=True, check=True
    )
    return Measured(**json.loads(run.stdout))


def outcome(seconds: float, *, code: int = 0, left_behind: tuple[str, ...] = ()) -> Outcome:
    return Outcome("slow", Measured(code, seconds, 60, list(left_behind)), 100)


def test_the_time_of_a_server_that_left_its_session_and_its_parent_is_counted(tmp_path: Path) -> None:
    took = measured(tmp_path, BURN, grace_seconds=60)

    assert took.code == 3
    assert took.processor_seconds > 0.8
    assert took.left_behind == []


def test_a_server_that_nobody_stopped_is_counted_named_and_ended(tmp_path: Path) -> None:
    took = measured(tmp_path, STAY, grace_seconds=0.3)

    pid = (tmp_path / "started").read_text()
    assert took.processor_seconds > 0.8
    assert len(took.left_behind) == 1
    assert took.left_behind[0].startswith(f"{pid} {sys.executable} -c import signal")
    assert not psutil.pid_exists(int(pid))


def test_every_test_belongs_to_exactly_one_tier(pytestconfig: pytest.Config) -> None:
    marks = [line.partition(":")[0] for line in pytestconfig.getini("markers")]
    marks = [mark for mark in marks if mark in {"slow", "e2e", "kubernetes", "benchmark", "nightly"}]
    assert len(marks) == 5

    for present in itertools.product([False, True], repeat=len(marks)):
        of_a_test = dict(zip(marks, present, strict=True))
        tiers = [name for name, tier in TIERS.items() if eval(tier.marks, {}, of_a_test)]  # noqa: S307
        assert len(tiers) == 1, (of_a_test, tiers)
        assert not of_a_test["nightly"] or tiers[0] in {"nightly", "benchmark", "kubernetes"}


@pytest.mark.parametrize(
    ("seconds", "failed", "note"),
    [
        (100, False, ""),
        (149, False, "WARNING slow took 149 processor seconds, 49 % over its budget of 100"),
        (151, True, "ERROR slow took 151 processor seconds, 51 % over its budget of 100"),
    ],
)
def test_a_tier_fails_when_it_takes_half_more_than_its_budget(seconds: float, failed: bool, note: str) -> None:
    took = outcome(seconds)

    assert took.failed == failed
    assert table([took]).splitlines()[2].split() == [
        *("|", "slow", "|", *(["too", "slow"] if failed else ["passed"])),
        *("|", str(seconds), "|", "100", "|", "60", "|"),
    ]
    assert table([took]).count("budget of") == bool(note)
    assert note in table([took])


def test_a_tier_within_its_budget_fails_with_its_tests_and_not_for_having_none() -> None:
    assert outcome(1, code=1).failed
    assert "FAILED" in outcome(1, code=1).row
    assert not outcome(1, code=NO_TESTS).failed
    assert "no tests" in outcome(1, code=NO_TESTS).row


def test_what_a_tier_left_running_is_in_the_report() -> None:
    assert "WARNING slow left a process behind, which was ended: 7 postgres" in table(
        [outcome(1, left_behind=("7 postgres",))]
    )


def test_a_machine_of_half_the_speed_has_twice_the_budget_and_none_has_any_budget() -> None:
    assert scale([2 * REFERENCE_SECONDS, 2 * REFERENCE_SECONDS]) == 2
    assert scale([100 * REFERENCE_SECONDS]) == 4
    assert scale([REFERENCE_SECONDS / 100]) == 0.5


@pytest.mark.parametrize(("budget", "code", "result"), [(0.001, 1, "too slow"), (1000, 0, "passed")])
def test_a_run_over_its_budget_fails_although_its_tests_passed(
    tmp_path: Path, budget: float, code: int, result: str
) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "test_one.py").write_text("def test_something_that_holds():\n    pass\n")
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nmarkers =\n"
        + "".join(f"    {mark}\n" for mark in ("slow", "e2e", "kubernetes", "benchmark", "nightly"))
    )
    program = (
        "import sys, run_tests\n"
        "run_tests.slowness = lambda: 1.0\n"
        f"run_tests.TIERS['unit'] = run_tests.Tier(run_tests.TIERS['unit'].marks, 'one test', {budget})\n"
        "sys.exit(run_tests.main(['unit']))"
    )
    environment = {"PYTHONPATH": str(tmp_path / "scripts"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert run.returncode == code, run.stdout + run.stderr
    assert "slowest 20 durations" in run.stdout
    assert (tmp_path / "build/tests/unit.xml").read_text().count("test_something_that_holds") == 1
    written = (tmp_path / "build/tests/table.md").read_text()
    assert f"| unit       | {result} " in written
    assert run.stdout.endswith(written)
