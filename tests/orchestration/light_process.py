"""A fresh process that imports the light tasks and runs some of them, as a worker does, and says what that took."""

import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = {
    "mlflow", "duckdb", "pandas", "numpy", "torch", "pyarrow", "evidently", "great_expectations", "transformers", "sklearn",
    "scipy",
}  # fmt: skip
CODE = """
import contextlib, json, sys, time

def now():
    with open("/proc/self/status") as status:
        (kilobytes,) = (line.split()[1] for line in status if line.startswith("VmRSS"))
    return time.process_time(), int(kilobytes) / 1024

begin = now()
import airflow.sdk
bare = now()
from nightshift.orchestration import approval, nightly, pod_usage, promote, release, release_watch, retraining
imported = now()
from retraining_tasks import context

app, given = sys.argv[1], {"version": None, "reason": None, "ask": False}
retraining.due.function(app, [], **context("manual__1", user="ana"))
with contextlib.suppress(airflow.sdk.exceptions.AirflowSkipException):
    release_watch.watch.function(app, **context("manual__1"))
said = None
if sys.argv[2] == "release":
    decided = release.release.function(app, **context("manual__1", params=given))
    said = promote.promote.function(app, decided, **context("manual__1", params=given))
    pod_usage.usage.function(app, **context("manual__1"))
done = now()
print(json.dumps({
    "sdk_seconds": bare[0] - begin[0],
    "import_seconds": imported[0] - bare[0],
    "task_seconds": done[0] - imported[0],
    "sdk_megabytes": bare[1],
    "megabytes": done[1] - bare[1],
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
    "said": said,
}))
"""


def light_process(application, tasks="due"):
    """Run the task `due`, or with `release` also those of a release and of pods' usage, and return what was measured."""
    run = subprocess.run(
        [sys.executable, "-c", CODE, application, tasks],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(run.stdout.splitlines()[-1])
