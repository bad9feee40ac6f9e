"""What a small job takes as a fork of the fork server, and as a process that imports everything itself."""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nightshift.jobs import ingest, validate
from nightshift.jobs.environment import allowed
from nightshift.jobs.forkserver import server_environment
from nightshift.orchestration.process_group import ProcessGroup
from nightshift.settings.applications import load_application

ROOT = Path(__file__).parents[2]
RUNS = 3
DAY = {"start": "2026-11-02T00:00:00Z", "end": "2026-11-03T00:00:00Z"}


@pytest.fixture
def forkserver(tmp_path):
    """The socket of a fork server that has imported everything."""
    socket, log = tmp_path / "forkserver.sock", tmp_path / "log"
    command = [sys.executable, "-m", "nightshift", "forkserver", str(socket)]
    with log.open("wb") as file:
        server = subprocess.Popen(command, env=server_environment(allowed(os.environ)), stderr=file)
    while "ready" not in log.read_text():
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    yield socket
    server.kill()
    server.wait()


def seconds(folder: Path, job: str, spec, forkserver: Path | None) -> tuple[float, dict]:
    """How long a job takes from its task's point of view, and its result."""
    (folder / "spec.json").write_text(spec.model_dump_json())
    begin = time.monotonic()
    group = ProcessGroup(
        [sys.executable, "-m", "nightshift", job, "--spec", str(folder / "spec.json"),
         "--result", str(folder / "result.json"), "--end-with-parent"],
        environment={**allowed(os.environ), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"},
        cpus=2, memory_gb=6, on_line=lambda _stream, _line: None, forkserver=forkserver,
    )  # fmt: skip
    assert group.wait() == 0
    return time.monotonic() - begin, json.loads((folder / "result.json").read_text())["result"]


@pytest.mark.benchmark
def test_a_small_job_takes_less_than_half_as_long_when_its_libraries_are_imported_already(tmp_path, forkserver):
    app = load_application("banking_assistant")
    took: dict[tuple[str, bool], list[float]] = {}
    for run in range(RUNS):
        for forked in (False, True):
            folder = tmp_path / f"{run}-{forked}"
            folder.mkdir()
            here = {"application": app, "storage": folder.as_uri()}
            server = forkserver if forked else None
            ingested, examples = seconds(folder, "ingest", ingest.Spec(**here, interval=DAY), server)
            spec = validate.Spec(**here, examples=examples["examples"], digest=examples["digest"])
            validated, _ = seconds(folder, "validate", spec, server)
            took.setdefault(("ingest", forked), []).append(ingested)
            took.setdefault(("validate", forked), []).append(validated)
    medians = {key: statistics.median(values) for key, values in took.items()}
    lines = ["| job (1,140 rows) | started (s) | forked (s) | ratio |", "| --- | ---: | ---: | ---: |"]
    for job in ("ingest", "validate"):
        started, forked = medians[job, False], medians[job, True]
        lines.append(f"| {job} | {started:.1f} | {forked:.1f} | {started / forked:.1f} |")
    report = ROOT / "build" / "benchmarks" / "job_start.md"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    assert medians["validate", False] >= 2 * medians["validate", True]
