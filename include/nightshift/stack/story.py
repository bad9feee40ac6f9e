"""The sample's story, told by Airflow: data arrives and a person starts one training; the rest happens by itself.

Four days of messages make the first champion. It answers two quiet nights, then two with intents that it never saw. The
monitor fails these, orders one retraining, and the new champion answers the last night again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.follow import ENDED, Follower, succeeded

APPLICATION = "banking_assistant"
INGEST, FINETUNE, RELEASE, INFERENCE, DRIFT, BIAS = (
    f"{APPLICATION}_{name}"
    for name in ("ingest", "finetune", "release", "batch_inference", "nightly_drift", "nightly_bias")
)
DAGS = (INGEST, FINETUNE, RELEASE, INFERENCE, DRIFT, BIAS)
FIRST_DAY = date(2026, 11, 2)
LEARNED = [str(FIRST_DAY + timedelta(days=n)) for n in range(4)]
QUIET = LEARNED[2:]
CHANGED = [str(FIRST_DAY + timedelta(days=n)) for n in (4, 5)]
NIGHTS = [*QUIET, *CHANGED]
FINETUNE_RUN = f"make-run-{LEARNED[-1]}"
BIAS_RUN = f"make-run-{CHANGED[-1]}"
FINETUNE_STEPS = ("snapshot", "train", "evaluate", "register")
DATA_SECONDS, TRAINING_SECONDS = 1200, 1800

Results = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Story:
    """What came out: results by task, of each day, night, training and release."""

    days: dict[str, Results]
    nights: dict[str, Results]
    first: Results
    retraining: Results
    replay: dict[str, Any]
    bias: dict[str, Any]


def tell(follower: Follower) -> Story:
    """Have everything done that is not, in order, and return what came out.

    :raises RunFailed: a task failed.
    :raises BadEnvironment: Airflow does not answer.
    """
    api, say = follower.api, follower.say
    # A paused DAG would not hear the events that wake it.
    for dag in (RELEASE, DRIFT):
        api.unpause(dag)
    days = _days(follower, INGEST, LEARNED, ("ingest", "validate"))
    first = _first_training(follower)
    _released(follower, first["register"]["version"])
    nights = _days(follower, INFERENCE, QUIET, ("score",))
    verdicts = _judged(follower, QUIET)
    days |= _days(follower, INGEST, CHANGED, ("ingest", "validate"))
    nights |= _days(follower, INFERENCE, CHANGED, ("score",))
    verdicts |= _judged(follower, NIGHTS)
    say("waiting for the retraining that drift ordered")
    retraining = follower.events(FINETUNE, "retraining", lambda: _ordered_training(api), TRAINING_SECONDS)
    replay = _released(follower, retraining["register"]["version"])
    return Story(
        days=days,
        nights={night: {**nights[night], "drift": verdicts[night]} for night in NIGHTS},
        first=first,
        retraining=retraining,
        replay=replay,
        bias=_bias(follower),
    )


def _days(follower: Follower, dag: str, days: list[str], tasks: tuple[str, ...]) -> dict[str, Results]:
    """Have the runs of a DAG for these days done, and return the results by day and task.

    Each is started as with the form: SQLite takes no backfill while other runs write.
    """
    api, say = follower.api, follower.say
    runs = {day: f"make-run-{day}" for day in days}
    known = {run["dag_run_id"]: run for run in api.runs(dag)}
    undone = [day for day in days if runs[day] not in known or not succeeded(api, dag, known[runs[day]])]
    if undone:
        say(f"{dag}: {', '.join(undone)}")
        api.unpause(dag)
        for day in undone:
            if runs[day] not in known:
                api.trigger(dag, runs[day], {"day": day})
            elif known[runs[day]]["state"] in ENDED:
                api.clear(dag, runs[day])
        follower.runs(dag, {runs[day]: day for day in undone}, DATA_SECONDS)
    else:
        say(f"{dag}: {days[0]} to {days[-1]} are done already")
    return {day: {task: api.result(dag, runs[day], task) for task in tasks} for day in days}


def _first_training(follower: Follower) -> Results:
    """Have the first candidate trained, judged and registered, in a run of our own."""
    api, say = follower.api, follower.say
    run = _run(api, FINETUNE, FINETUNE_RUN)
    if run and succeeded(api, FINETUNE, run):
        say(f"{FINETUNE}: done already in run {FINETUNE_RUN}")
    else:
        say(f"{FINETUNE}: on the examples up to {LEARNED[-1]}")
        api.unpause(FINETUNE)
        if run is None:
            api.trigger(FINETUNE, FINETUNE_RUN, {"until": LEARNED[-1]})
        elif run["state"] in ENDED:
            api.clear(FINETUNE, FINETUNE_RUN)
        follower.runs(FINETUNE, {FINETUNE_RUN: "first      "}, TRAINING_SECONDS)
    return {task: api.result(FINETUNE, FINETUNE_RUN, task) for task in FINETUNE_STEPS}


def _released(follower: Follower, version: str) -> dict[str, Any]:
    """Wait until a version is the champion, and return its replay."""
    api = follower.api

    def reached() -> dict[str, Any] | None:
        for run in api.runs(RELEASE):
            if run["state"] in ENDED and api.result(RELEASE, run["dag_run_id"], "promote").get("version") == version:
                return api.result(RELEASE, run["dag_run_id"], "replay")
        return None

    return follower.events(RELEASE, "release    ", reached, DATA_SECONDS)


def _judged(follower: Follower, nights: list[str]) -> dict[str, dict[str, Any]]:
    """Wait until every night has a verdict, and return them."""
    api = follower.api

    def reached() -> dict[str, dict[str, Any]] | None:
        found: dict[str, dict[str, Any]] = {}
        for run in reversed(api.runs(DRIFT)):
            if run["state"] in ENDED:
                for night in api.result(DRIFT, run["dag_run_id"], "drift").get("nights", []):
                    found.setdefault(night["night"], night)
        return {night: found[night] for night in nights} if set(nights) <= set(found) else None

    return follower.events(DRIFT, "drift      ", reached, DATA_SECONDS)


def _ordered_training(api: AirflowApi) -> Results | None:
    """The results of the run that trained for an order of the ledger, once it has ended."""
    for run in api.runs(FINETUNE):
        due = api.result(FINETUNE, run["dag_run_id"], "due")
        if due.get("order") is not None and run["state"] == "success":
            steps = {task: api.result(FINETUNE, run["dag_run_id"], task) for task in FINETUNE_STEPS}
            return {"due": due, **steps}
    return None


def _bias(follower: Follower) -> dict[str, Any]:
    """Have the last night and the new champion looked at for bias."""
    api, say = follower.api, follower.say
    run = _run(api, BIAS, BIAS_RUN)
    if run is None or run["state"] != "success":
        say(f"{BIAS}: {CHANGED[-1]}")
        api.unpause(BIAS)
        if run is None:
            api.trigger(BIAS, BIAS_RUN, {"night": CHANGED[-1]})
        elif run["state"] in ENDED:
            api.clear(BIAS, BIAS_RUN)
        follower.runs(BIAS, {BIAS_RUN: "bias       "}, DATA_SECONDS)
    return api.result(BIAS, BIAS_RUN, "bias")


def _run(api: AirflowApi, dag: str, run_id: str) -> dict[str, Any] | None:
    return next((run for run in api.runs(dag) if run["dag_run_id"] == run_id), None)
