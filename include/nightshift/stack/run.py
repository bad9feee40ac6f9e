"""Starts the stack, has it tell the sample's story from raw rows to a retrained champion, and says what came out."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from nightshift.errors import BadEnvironment, BadInput
from nightshift.settings.applications import application_names, load_application
from nightshift.settings.project import PROJECT_VARIABLE
from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.follow import Follower, Say
from nightshift.stack.place import this_place
from nightshift.stack.story import APPLICATION, DAGS, tell
from nightshift.stack.summary import (
    finetune_summary,
    ingest_summary,
    nights_summary,
    pages,
    replay_summary,
    shadow_summary,
)
from nightshift.stack.timing import Span, spans_since, times, times_summary
from nightshift.stack.up import Steps, start, where

PARSED_SECONDS = 180


def main() -> int:
    """Run the sample to its end. Ctrl-C leaves the stack and its runs up.

    :raises BadInput: the project has other applications, or its file of the sample is wrong.
    """
    begun = datetime.now(UTC)
    place = this_place()
    if APPLICATION not in application_names():
        raise BadInput(
            f"`nightshift run` runs the sample, and the project {place.project} has no {APPLICATION}: "
            f"unset {PROJECT_VARIABLE}, or start the project with `nightshift up` and its DAGs in Airflow"
        )
    load_application(APPLICATION)
    try:
        start(place)
        say = Steps()
        with AirflowApi(place) as api:
            _wait_until_parsed(api, say)
            ready = datetime.now(UTC)
            story = tell(Follower(api, say))
            jobs, tasks = spans_since(begun, api, DAGS, place.storage, APPLICATION)
            spent = times(begun, datetime.now(UTC), jobs, [*tasks, Span("stack", begun, ready)])
    except KeyboardInterrupt:
        print("\nThe stack goes on in the background. `make run` follows it again, `make down` stops it.")
        raise
    print(
        f"\nIngested\n{ingest_summary(story.days)}\n"
        f"\nThe first champion\n{finetune_summary(story.first)}\n"
        f"\nThe nights\n{nights_summary(story.nights)}\n"
        f"\nThe retraining that drift ordered\n  why          {story.retraining['due'].get('reason', '?')}\n"
        f"{finetune_summary(story.retraining)}\n"
        f"\nIn the shadow of the champion\n{shadow_summary(story.shadow)}\n"
        f"\nThe last night, answered again by the new champion\n{replay_summary(story.replay)}\n"
        f"\nWhere the time went\n{times_summary(spent)}\n"
        f"\nWhere to look\n{pages(story)}\n{where(place)}"
    )
    return 0


def _wait_until_parsed(api: AirflowApi, say: Say) -> None:
    """Wait until the DAG processor has seen the sample's DAGs.

    :raises BadEnvironment: it has not within three minutes; the text holds Airflow's import errors.
    """
    deadline = time.monotonic() + PARSED_SECONDS
    missing = [dag for dag in DAGS if not api.has_dag(dag)]
    if missing:
        say("waiting for Airflow to read the DAGs")
    while missing:
        if time.monotonic() > deadline:
            problems = "\n".join(api.import_errors()) or "Airflow names no import error; see dag-processor.log"
            raise BadEnvironment(f"Airflow does not know {', '.join(missing)}:\n{problems}")
        time.sleep(1)
        missing = [dag for dag in missing if not api.has_dag(dag)]
