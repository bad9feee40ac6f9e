"""The sample's story, told by Airflow: data arrives and a person starts one training; the rest happens by itself.

Four days of messages make the first champion. It answers two quiet nights, then two with intents that it never saw. The
monitor fails these and orders one retraining. Its model answers in the shadow of the champion, replaces it, and answers the last
night again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.follow import ENDED, Follower, RunFailed, succeeded

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
    shadow: dict[str, Any]
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
    _promoted(follower, first["register"]["version"])
    _begin(follower, INGEST, CHANGED)  # beside the nights, which leave processors idle while their tasks start
    nights = _days(follower, INFERENCE, QUIET, ("score",))
    days |= _days(follower, INGEST, CHANGED, ("ingest", "validate"))
    nights |= _days(follower, INFERENCE, CHANGED, ("score",))
    verdicts = _judged(follower, NIGHTS)
    say("waiting for the retraining that drift ordered")
    retraining = follower.events(FINETUNE, "retraining", lambda: _ordered_training(api), TRAINING_SECONDS)
    version = retraining["register"]["version"]
    _promoted(follower, version)
    _begin_bias(follower)
    shadow, replay = _released(follower, version)
    return Story(
        days=days,
        nights={night: {**nights[night], "drift": verdicts[night]} for night in NIGHTS},
        first=first,
        retraining=retraining,
        shadow=shadow,
        replay=replay,
        bias=_bias(follower),
    )


def _days(follower: Follower, dag: str, days: list[str], tasks: tuple[str, ...]) -> dict[str, Results]:
    """Have the runs of a DAG for these days done, and return the results by day and task."""
    if undone := _begin(follower, dag, days):
        follower.runs(dag, {_run_of(day): day for day in undone}, DATA_SECONDS)
    else:
        follower.say(f"{dag}: {days[0]} to {days[-1]} are done already")
    return {day: {task: follower.api.result(dag, _run_of(day), task) for task in tasks} for day in days}


def _begin(follower: Follower, dag: str, days: list[str]) -> list[str]:
    """Start the runs of a DAG for the days that are not done, and return these days.

    Each is started as with the form: SQLite takes no backfill while other runs write.
    """
    api = follower.api
    known = {run["dag_run_id"]: run for run in api.runs(dag)}
    undone = [day for day in days if not (run := known.get(_run_of(day))) or not succeeded(api, dag, run)]
    begin = [day for day in undone if known.get(_run_of(day), {"state": "failed"})["state"] in ENDED]
    if begin:
        follower.say(f"{dag}: {', '.join(begin)}")
        api.unpause(dag)
    for day in begin:
        if _run_of(day) in known:
            api.clear(dag, _run_of(day))
        else:
            api.trigger(dag, _run_of(day), {"day": day})
    return undone


def _first_training(follower: Follower) -> Results:
    """Have the first candidate trained, judged and registered, in a run of our own."""
    api, say = follower.api, follower.say
    run = _run(api, FINETUNE, _run_of(LEARNED[-1]))
    if run and succeeded(api, FINETUNE, run):
        say(f"{FINETUNE}: done already in run {_run_of(LEARNED[-1])}")
    else:
        say(f"{FINETUNE}: on the examples up to {LEARNED[-1]}")
        api.unpause(FINETUNE)
        if run is None:
            api.trigger(FINETUNE, _run_of(LEARNED[-1]), {"until": LEARNED[-1]})
        elif run["state"] in ENDED:
            api.clear(FINETUNE, _run_of(LEARNED[-1]))
        follower.runs(FINETUNE, {_run_of(LEARNED[-1]): "first      "}, TRAINING_SECONDS)
    return {task: api.result(FINETUNE, _run_of(LEARNED[-1]), task) for task in FINETUNE_STEPS}


def _promoted(follower: Follower, version: str) -> None:
    """Wait until a version is the champion.

    :raises RunFailed: its gate or its shadow holds it back.
    """

    def reached() -> dict[str, Any] | None:
        if (run := _release_of(follower.api, version)) is None:
            _require_not_held_back(follower.api, version)
        return run

    follower.events(RELEASE, "release    ", reached, DATA_SECONDS)


def _released(follower: Follower, version: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Wait for the end of the release of a version, and return its shadow and its replay."""
    api = follower.api

    def ended() -> tuple[dict[str, Any], dict[str, Any]] | None:
        run = _release_of(api, version)
        if run is None or run["state"] not in ENDED:
            return None
        shadow, replay = (api.result(RELEASE, run["dag_run_id"], task) for task in ("shadow", "replay"))
        return shadow, replay

    return follower.events(RELEASE, "release    ", ended, DATA_SECONDS)


def _release_of(api: AirflowApi, version: str) -> dict[str, Any] | None:
    """The run that made a version the champion."""
    runs = [
        run for run in api.runs(RELEASE) if api.result(RELEASE, run["dag_run_id"], "promote").get("version") == version
    ]
    return runs[0] if runs else None


def _require_not_held_back(api: AirflowApi, version: str) -> None:
    for run in api.runs(RELEASE):
        said = api.result(RELEASE, run["dag_run_id"], "release") if run["state"] in ENDED else {}
        if said.get("version") == version and not said["released"] and said["request"] is None:
            reasons = "".join(f"\n    {reason}" for reason in said["reasons"])
            raise RunFailed(
                f"{RELEASE}: version {version} is not released, gate and shadow say {said['verdict']}:{reasons}\n"
                f"  What to do: look at its page, {api.page(RELEASE, run['dag_run_id'])}; trigger {RELEASE} with this version "
                "and a reason to release it all the same, then `make run` again."
            )


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


def _begin_bias(follower: Follower) -> bool:
    """Start the look at the last night and the new champion, and return whether it is to be waited for."""
    api = follower.api
    run = _run(api, BIAS, _run_of(CHANGED[-1]))
    if run and run["state"] == "success":
        return False
    if run is None or run["state"] in ENDED:
        follower.say(f"{BIAS}: {CHANGED[-1]}")
        api.unpause(BIAS)
    if run is None:
        api.trigger(BIAS, _run_of(CHANGED[-1]), {"night": CHANGED[-1]})
    elif run["state"] in ENDED:
        api.clear(BIAS, _run_of(CHANGED[-1]))
    return True


def _bias(follower: Follower) -> dict[str, Any]:
    """Have the last night and the new champion looked at for bias."""
    if _begin_bias(follower):
        follower.runs(BIAS, {_run_of(CHANGED[-1]): "bias       "}, DATA_SECONDS)
    return follower.api.result(BIAS, _run_of(CHANGED[-1]), "bias")


def _run_of(day: str) -> str:
    return f"make-run-{day}"


def _run(api: AirflowApi, dag: str, run_id: str) -> dict[str, Any] | None:
    return next((run for run in api.runs(dag) if run["dag_run_id"] == run_id), None)
