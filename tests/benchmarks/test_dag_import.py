"""What the dags folder costs: every task pays it again."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNS = 5
CODE = """
import json, runpy, sys, time
import airflow.sdk
costs = {}
for path in sys.argv[1:]:
    start = time.process_time()
    runpy.run_path(path)
    costs[path] = time.process_time() - start
print(json.dumps(costs))
"""


@pytest.mark.benchmark
def test_importing_the_dags_folder_costs_little_beyond_airflow_itself():
    files = sorted(str(path) for path in (ROOT / "dags").glob("*.py"))
    runs = [
        json.loads(
            subprocess.run([sys.executable, "-c", CODE, *files], capture_output=True, text=True, check=True).stdout
        )
        for _ in range(RUNS)
    ]
    median = {path: statistics.median(run[path] for run in runs) for path in files}
    total = statistics.median(sum(run.values()) for run in runs)
    lines = ["| DAG file | CPU-seconds to import (median of 5, after airflow.sdk) |", "| --- | --- |"]
    lines += [f"| {Path(path).name} | {cost:.3f} |" for path, cost in median.items()]
    lines.append(f"| **whole folder** | **{total:.3f}** |")
    report = ROOT / "build" / "benchmarks" / "dag_import.md"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    assert total <= 0.2
