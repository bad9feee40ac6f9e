"""Starts the stack, runs the project's sample, and prints a summary."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from nightshift.errors import BadEnvironment, BadInput
from nightshift.settings.applications import application_names, load_application
from nightshift.settings.project import PROJECT_VARIABLE
from nightshift.stack import banking_story, document_story
from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.follow import Follower, Say
from nightshift.stack.place import this_place
from nightshift.stack.timing import Span, spans_since, times, times_summary
from nightshift.stack.up import Steps, start, where

PARSED_SECONDS = 180
STORIES = {story.APPLICATION: story for story in (banking_story, document_story)}


def main() -> int:
    """Run the sample to its end. Ctrl-C leaves the stack and its runs up.

    :raises BadInput: the project has other applications, or its file of the sample is wrong.
    """
    begun = datetime.now(UTC)
    place = this_place()
    application = next((name for name in application_names() if name in STORIES), None)
    if application is None:
        raise BadInput(
            f"`nightshift run` runs a sample, and the project {place.project} has no {' and no '.join(STORIES)}: "
            f"unset {PROJECT_VARIABLE}, or start the project with `nightshift up` and its DAGs in Airflow"
        )
    load_application(application)
    story = STORIES[application]
    dags = [f"{application}_{name}" for name in story.DAGS]
    try:
        start(place)
        say = Steps()
        with AirflowApi(place) as api:
            _wait_until_parsed(api, say, dags)
            ready = datetime.now(UTC)
            summary, pages = story.tell(Follower(api, say), place.project)
            jobs, tasks = spans_since(begun, api, dags, place.storage, application)
            spent = times(begun, datetime.now(UTC), jobs, [*tasks, Span("stack", begun, ready)])
    except KeyboardInterrupt:
        print("\nThe stack goes on in the background. `make run` follows it again, `make down` stops it.")
        raise
    print(f"{summary}\nWhere the time went\n{times_summary(spent)}\n\nWhere to look\n{pages}\n{where(place)}")
    return 0


def _wait_until_parsed(api: AirflowApi, say: Say, dags: list[str]) -> None:
    """Wait until the DAG processor has seen the sample's DAGs.

    :raises BadEnvironment: it has not within three minutes; the text holds Airflow's import errors.
    """
    deadline = time.monotonic() + PARSED_SECONDS
    missing = [dag for dag in dags if not api.has_dag(dag)]
    if missing:
        say("waiting for Airflow to read the DAGs")
    while missing:
        if time.monotonic() > deadline:
            problems = "\n".join(api.import_errors()) or "Airflow names no import error; see dag-processor.log"
            raise BadEnvironment(f"Airflow does not know {', '.join(missing)}:\n{problems}")
        time.sleep(1)
        missing = [dag for dag in missing if not api.has_dag(dag)]
