"""What parsing costs: the DAG processor pays the whole folder again and again, and every task pays its own file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "include" / "nightshift" / "apps" / "banking_assistant.yaml"
FEW, MANY = 1, 50
LONGEST_TASK = 0.2
LONGEST_APPLICATION = 0.03
# As Airflow does it: a process that knows airflow.sdk and nothing of ours forks one for every file, and for every task.
CODE = """
import gc, json, os, runpy, sys, time
import airflow.sdk

def seconds(path, dag_id):
    reader, writer = os.pipe()
    if not os.fork():
        if dag_id:
            os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = dag_id
        start = time.process_time()
        runpy.run_path(path)
        os.write(writer, str(time.process_time() - start).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        os.wait()
        return float(pipe.read())

gc.collect()
gc.freeze()
print(json.dumps([min(seconds(*one) for _ in range(3)) for one in json.loads(sys.argv[1])]))
"""


def dag_of_a_task(file: Path) -> str:
    """The DAG for which a task parses a file; none where the file holds no DAG."""
    text = file.read_text()
    if "housekeeping_dag(" in text:
        return f"nightshift_{file.stem}"
    return f"app_0_{file.stem}" if "application_dag(" in text else ""


def costs(project: Path, parses: list[tuple[str, str]]) -> list[float]:
    """Return the CPU-seconds of each parse of a file, by the DAG processor or for the DAG of a task."""
    run = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(parses)],
        env={**os.environ, "NIGHTSHIFT_PROJECT": str(project)},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.benchmark
def test_a_task_pays_for_its_own_dag_and_the_dag_processor_little_for_each_application(tmp_path):
    files = sorted((ROOT / "dags").glob("*.py"))
    tasks = [(str(file), dag) for file in files if (dag := dag_of_a_task(file))]
    whole, task = {}, {}
    for count in (FEW, MANY):
        project = tmp_path / str(count)
        (project / "apps").mkdir(parents=True)
        for number in range(count):
            (project / "apps" / f"app_{number}.yaml").write_text(SAMPLE.read_text())
        spent = costs(project, [*((str(file), "") for file in files), *tasks])
        whole[count] = dict(zip([file.stem for file in files], spent, strict=False))
        task[count] = dict(zip([Path(path).stem for path, _ in tasks], spent[len(files) :], strict=True))
    total = {count: sum(whole[count].values()) for count in (FEW, MANY)}
    each = (total[MANY] - total[FEW]) / (MANY - FEW)
    rows = {
        file.stem: [cost[count].get(file.stem) for cost in (whole, task) for count in (FEW, MANY)] for file in files
    }
    rows["**whole folder**"] = [total[FEW], total[MANY], None, None]
    lines = [
        "CPU-seconds to parse a DAG file, after `import airflow.sdk` (least of 3), by the number of applications:",
        "",
        f"| DAG file | DAG processor, {FEW} | DAG processor, {MANY} | a task, {FEW} | a task, {MANY} |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(f"| {name} | {' | '.join('' if n is None else f'{n:.3f}' for n in row)} |" for name, row in rows.items()),
        "",
        f"Each application costs the DAG processor {each:.4f} s whenever it parses the folder.",
    ]
    report = ROOT / "build" / "benchmarks" / "dag_import.md"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    assert max(max(cost.values()) for cost in task.values()) <= LONGEST_TASK
    assert each <= LONGEST_APPLICATION
