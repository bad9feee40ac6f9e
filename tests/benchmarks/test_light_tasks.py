"""What a task that only decides costs a worker: importing it, and deciding, next to importing Airflow's own part of a task."""

import statistics
from pathlib import Path

import pytest
from light_process import light_process

ROOT = Path(__file__).parents[2]
RUNS = 3
APP = "sources:\n  - uri: /data/*.csv\n    columns: {prompt: text}\n"
MOST_OF_AIRFLOW = 0.5  # of the CPU-seconds of `import airflow.sdk`


@pytest.mark.benchmark
def test_importing_the_light_tasks_and_deciding_takes_less_than_half_of_importing_airflow(tmp_path, monkeypatch):
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps" / "app.yaml").write_text(APP)
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", (tmp_path / "storage").as_uri())
    runs = [light_process("app") for _ in range(RUNS)]
    sdk, imported, task, bare, more = (
        statistics.median(run[name] for run in runs)
        for name in ("sdk_seconds", "import_seconds", "task_seconds", "sdk_megabytes", "megabytes")
    )
    lines = [
        f"A light task in a fresh process (median of {RUNS}):",
        "",
        "| step | CPU-seconds | MB |",
        "| --- | ---: | ---: |",
        f"| `import airflow.sdk` | {sdk:.2f} | {bare:.0f} |",
        f"| importing all light tasks | {imported:.2f} | |",
        f"| claiming a retraining | {task:.2f} | {more:.0f} more |",
    ]
    report = ROOT / "build" / "benchmarks" / "light_tasks.md"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    assert imported + task <= MOST_OF_AIRFLOW * sdk
