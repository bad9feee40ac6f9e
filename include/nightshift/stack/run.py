"""Starts the stack, runs the sample application from raw rows to a registered model, and says what came out."""

from __future__ import annotations

import time
from datetime import date, timedelta
from typing import Any

from nightshift.applications import load_application
from nightshift.errors import BadEnvironment
from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.follow import ENDED, Say, follow, seconds_of, succeeded
from nightshift.stack.place import this_place
from nightshift.stack.summary import finetune_summary, ingest_summary, pages
from nightshift.stack.up import Steps, start, where

APPLICATION = "banking_assistant"
INGEST = f"{APPLICATION}_ingest"
FINETUNE = f"{APPLICATION}_finetune"
DAYS = [date(2026, 11, 2) + timedelta(days=n) for n in range(4)]
FINETUNE_RUN = f"make-run-{DAYS[-1]}"
PARSED_SECONDS = 180
INGEST_SECONDS = 900
FINETUNE_SECONDS = 1800


def main() -> int:
    """Run the sample to its end. Ctrl-C leaves the stack and its runs up."""
    place = this_place()
    load_application(APPLICATION)
    try:
        start(place)
        say = Steps()
        with AirflowApi(place) as api:
            _wait_until_parsed(api, say)
            days = _ingest(api, say)
            results, seconds = _finetune(api, say)
    except KeyboardInterrupt:
        print("\nThe stack goes on in the background. `make run` follows it again, `make down` stops it.")
        raise
    print(
        f"\nIngested ({INGEST})\n{ingest_summary(days)}\n"
        f"\nFine-tuned ({FINETUNE}, {seconds:.0f} s)\n{finetune_summary(results)}\n"
        f"\nWhere to look\n{pages(days, results)}\n{where(place)}"
    )
    return 0


def _wait_until_parsed(api: AirflowApi, say: Say) -> None:
    """Wait until the DAG processor has seen both DAGs.

    :raises BadEnvironment: it has not within three minutes; the text holds Airflow's import errors.
    """
    deadline = time.monotonic() + PARSED_SECONDS
    missing = [dag for dag in (INGEST, FINETUNE) if not api.has_dag(dag)]
    if missing:
        say("waiting for Airflow to read the DAGs")
    while missing:
        if time.monotonic() > deadline:
            problems = "\n".join(api.import_errors()) or "Airflow names no import error; see dag-processor.log"
            raise BadEnvironment(f"Airflow does not know {', '.join(missing)}:\n{problems}")
        time.sleep(1)
        missing = [dag for dag in missing if not api.has_dag(dag)]


def _ingest(api: AirflowApi, say: Say) -> dict[str, dict[str, Any]]:
    """Have the days ingested that are not, and return the results of all by day and task."""
    days = [str(day) for day in DAYS]
    found = _runs_by_day(api)
    missing = [day for day in days if day not in found]
    undone = [day for day in days if day in found and not succeeded(api, INGEST, found[day])]
    if missing or undone:
        say(f"{INGEST}: {', '.join(sorted(missing + undone))}")
        for day in undone:
            if found[day]["state"] in ENDED:
                api.clear(INGEST, found[day]["dag_run_id"])
        if missing:
            api.backfill(INGEST, f"{days[0]}T00:00:00Z", f"{days[-1]}T00:00:00Z")
        api.unpause(INGEST)
        found = _runs_by_day(api)
        follow(api, INGEST, {found[day]["dag_run_id"]: day for day in sorted(missing + undone)}, say, INGEST_SECONDS)
    else:
        say(f"{INGEST}: {len(days)} days are ingested already")
    return {
        day: {task: api.result(INGEST, found[day]["dag_run_id"], task) for task in ("ingest", "validate")}
        for day in days
    }


def _runs_by_day(api: AirflowApi) -> dict[str, dict[str, Any]]:
    return {run["logical_date"][:10]: run for run in api.runs(INGEST) if run["logical_date"]}


def _finetune(api: AirflowApi, say: Say) -> tuple[dict[str, dict[str, Any]], float]:
    """Have the candidate trained, judged and registered; return the results by task, and the seconds that it took."""
    run = _finetune_run(api)
    if run and succeeded(api, FINETUNE, run):
        say(f"{FINETUNE}: done already in run {FINETUNE_RUN}")
    else:
        say(f"{FINETUNE}: on the examples up to {DAYS[-1]}")
        api.unpause(FINETUNE)
        if run is None:
            api.trigger(FINETUNE, FINETUNE_RUN, {"until": str(DAYS[-1])})
        elif run["state"] in ENDED:
            api.clear(FINETUNE, FINETUNE_RUN)
        follow(api, FINETUNE, {FINETUNE_RUN: "finetune  "}, say, FINETUNE_SECONDS)
        run = _finetune_run(api)
    tasks = ("snapshot", "train", "evaluate", "register")
    return {task: api.result(FINETUNE, FINETUNE_RUN, task) for task in tasks}, seconds_of(run or {})


def _finetune_run(api: AirflowApi) -> dict[str, Any] | None:
    return next((run for run in api.runs(FINETUNE) if run["dag_run_id"] == FINETUNE_RUN), None)
