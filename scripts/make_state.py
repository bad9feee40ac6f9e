"""Makes a small stored state of the product, as the code of one checkout leaves it, and packs it (see tests/states/README.md).

    <checkout>/.venv/bin/python scripts/make_state.py tests/states/<day>.tar.xz

A real stack works on the application `helper` with a toy model, over the bucket of an S3 server that runs here: the addresses
that a state is full of are then `s3://nightshift/<day>/…`, and open wherever a server gives these objects back.
"""

from __future__ import annotations

import csv
import os
import runpy
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import fsspec
import httpx
from moto.server import ThreadedMotoServer

from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.place import this_place

CHECKOUT = Path(sys.prefix).parent
DAYS, ROWS = ("2026-11-02", "2026-11-03", "2026-11-04", "2026-11-05"), 120
QUARANTINED, UNLIKE = DAYS[1], DAYS[3]
ANSWER = {"chosen_options": ["Approve"], "params_input": {"why": "the first model; read twenty answers"}}
HELPER = """\
description: Names the intent of a customer's message; small enough to be kept in a file.
schedule: null
start: 2026-11-02
base_model: s3://nightshift/STATE/base-model
sources:
  - uri: s3://nightshift/STATE/sources/{start:%Y-%m-%d}.csv
    columns: {prompt: text, answer: intent, id: message_id, timestamp: written_at}
ingest: {splits: {train: 0.5, traffic: 0.3, held_out: 0.2}}
training: {precision: fp32, epochs: 1, evaluate_steps: 100}
evaluation: {max_examples: 20, max_new_tokens: 4}
inference: {max_new_tokens: 4}
gate: {min_examples: 10, min_score: 0, min_gain_over_base: 0, max_loss_to_champion: 1}
drift: {min_rows: 20}
retraining: {nights: 1, of_nights: 1, min_new_examples: 0, cooldown_days: 0}
approval: {required: always, approvers: [approver], timeout_hours: 720}
"""


def main(archive: Path) -> None:
    """Start a stack, have it work, stop it, and pack what it leaves."""
    home, state = Path(tempfile.mkdtemp(prefix="state-")), archive.name.partition(".")[0]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "state", "AWS_SECRET_ACCESS_KEY": "state"}
    os.environ |= {f"NIGHTSHIFT_{name.upper()}": str(home / name) for name in ("home", "cache")}
    os.environ["NIGHTSHIFT_PROJECT"] = str(home)
    os.environ["NIGHTSHIFT_STORAGE"] = f"s3://nightshift/{state}/storage"
    write_inputs(home / "inputs")
    s3 = fsspec.filesystem("s3")
    s3.mkdir("nightshift")
    s3.put(f"{home}/inputs/", f"nightshift/{state}/", recursive=True)
    (home / "apps").mkdir()
    (home / "apps" / "helper.yaml").write_text(HELPER.replace("STATE", state))
    nightshift = [sys.executable, "-m", "nightshift"]
    try:
        subprocess.run([*nightshift, "up"], check=True)
        with AirflowApi(this_place()) as operator, AirflowApi(this_place(), "approver") as approver:
            work(operator, approver)
    finally:
        subprocess.run([*nightshift, "down"], check=True)
    s3.invalidate_cache()
    s3.get("nightshift/", f"{home}/packed/bucket/", recursive=True)
    server.stop()
    pack(home, archive)


def work(operator: AirflowApi, approver: AirflowApi) -> None:
    """Bring the stack into the state."""

    def run(kind: str, name: str, conf: dict[str, str]) -> None:
        operator.unpause(f"helper_{kind}")
        operator.trigger(f"helper_{kind}", name, conf)
        until(f"helper_{kind} {name}", lambda: ended(f"helper_{kind}", name))

    def ended(dag: str, name: str) -> bool:
        state = next(one["state"] for one in operator.runs(dag) if one["dag_run_id"] == name)
        if state == "failed":
            raise RuntimeError(f"{dag} {name}: {operator.tasks(dag, name)}")
        return bool(state == "success")

    def asked() -> str | None:
        return next((task["dag_run_id"] for task in operator.tasks_in("awaiting_input")), None)

    until("the DAGs", lambda: operator.has_dag("helper_release") and operator.has_dag("helper_nightly_drift"))
    for day in DAYS:
        run("ingest", day, {"day": day})
    operator.unpause("helper_release")
    run("finetune", "first", {"until": DAYS[2]})
    first = until("the first request", asked)
    dags = "/api/v2/dags"
    approver._call("PATCH", f"{dags}/helper_release/dagRuns/{first}/taskInstances/approve/-1/hitlDetails", json=ANSWER)
    until("the first release", lambda: ended("helper_release", first))
    for day in DAYS[2:]:
        run("batch_inference", day, {"day": day})
    run("finetune", "second", {"until": DAYS[3]})
    until("the second request", asked)
    operator._call("PATCH", f"{dags}/helper_finetune", json={"is_paused": True})  # so that the order stays open
    run("nightly_drift", "both", {})


def until(what: str, look: Callable[[], Any]) -> Any:
    """Return what `look` finds, as soon as it finds something."""
    print(f"{time.strftime('%H:%M:%S')} waiting for {what}", flush=True)
    end = time.monotonic() + 1_200
    while not (found := look()):
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(1)
    return found


def write_inputs(folder: Path) -> None:
    """Write the base model, narrower than the tests' own, and the days of messages."""
    from transformers import AutoConfig, AutoModelForCausalLM

    tiny_model = runpy.run_path(str(next((CHECKOUT / "tests").rglob("tiny_model.py"))))["tiny_model"]
    model = tiny_model(folder / "base-model")
    narrow = AutoConfig.from_pretrained(model, hidden_size=16, intermediate_size=32, head_dim=4)
    AutoModelForCausalLM.from_config(narrow).save_pretrained(model)
    (folder / "sources").mkdir()
    for day in DAYS:
        with (CHECKOUT / "include/nightshift/samples/banking77" / f"{day}.csv").open(newline="") as file:
            names, *rows = csv.reader(file)
        kept = sorted(rows, key=lambda row: -len(row[2]))[:ROWS] if day == UNLIKE else rows[:ROWS]
        bad = [["q1", f"{day}T12:00:00Z", "", "country support"], ["q2", "noon", "What is noon?", "country support"]]
        with (folder / "sources" / f"{day}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([names, *kept, *(bad if day == QUARANTINED else [])])


def pack(home: Path, archive: Path) -> None:
    """Pack the bucket, the application, both databases and MLflow's files: no keys, passwords or logs."""
    packed, stack = home / "packed", home / "home"
    shutil.copytree(home / "apps", packed / "apps")
    shutil.copytree(stack / "artifacts", packed / "artifacts")
    # Where this machine keeps its code is no part of the state.
    packages = str(Path(httpx.__file__).parents[1])
    neutral = {packages: "/opt/packages", str(CHECKOUT): "/opt/nightshift", str(home): "/opt/state"}
    columns = "SELECT t.name, c.name FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table'"
    for source in (stack / "mlflow.db", stack / "airflow" / "airflow.db"):
        shutil.copy(source, packed)
        with closing(sqlite3.connect(packed / source.name, isolation_level=None)) as database:
            for table, column in database.execute(columns).fetchall():
                for pair in neutral.items():
                    change = f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) WHERE instr("{column}", ?)'  # noqa: S608
                    database.execute(change, (*pair, pair[0]))
            database.execute("VACUUM")
    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for path in sorted(packed.iterdir()):
            tar.add(path, path.name)
    print(f"{archive}: {archive.stat().st_size:,} bytes; the stack's own files are in {home}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
