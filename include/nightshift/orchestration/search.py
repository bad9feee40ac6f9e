"""The light tasks of a search: what is in use, which trials answer the next rung, and whether the best becomes a candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowSkipException

from nightshift.evaluation.halving import ranked, survivors
from nightshift.orchestration.deciding import OUTLASTING, deciding, mlflow
from nightshift.orchestration.reconfigure import refuse_judged
from nightshift.registry.versions import CHAMPION
from nightshift.storage.application_version import open_version

Results = Sequence[Mapping[str, Any]]  # of mapped tasks, in the order of what they were given; a slice is one call


@task(**OUTLASTING)
def today(application: str, **context: Any) -> dict[str, Any]:
    """Return the champion, by `model` and `model_digest`: the search is held against it, whatever is released meanwhile.

    :raises AirflowSkipException: the application searches nothing, or has no champion.
    """
    with deciding(application, context) as (app, _), mlflow() as server:
        if app.search is None:
            raise AirflowSkipException("the application's file has no `search`")
        champion = server.with_alias(app.name, CHAMPION)
        if champion is None:
            raise AirflowSkipException("there is no champion yet, whose weights could answer")
        return {"model": champion.model, "model_digest": champion.digest}


@task(**OUTLASTING)
def contenders(plan: Mapping[str, Any], rungs: Sequence[Results]) -> list[dict[str, Any]]:
    """Return the arguments of each trial of the next rung.

    One that is left alone beside today has nothing to be compared with, and answers no more rows. So does the best one when
    the search's minutes are spent: those that its answers took when they were made, so that a task that runs again says the same.

    :param rungs: results of the rungs before.
    """
    trials, rung = [*range(plan["trials"])], 1
    if rungs:
        told = [results[:] for results in rungs]
        seconds = {one["trial"]: one["seconds"] for results in told for one in results}
        spent = plan["most_minutes"] is not None and sum(seconds.values()) >= 60 * plan["most_minutes"]
        trials = survivors(_scores(told[-1]), plan["eta"], spent)
        rung = told[-1][0]["rung"] + (len(trials) > 2)
    return [{"plan": plan["plan"], "digest": plan["digest"], "trial": trial, "rung": rung} for trial in trials]


@task(**OUTLASTING)
def best(plan: Mapping[str, Any], rungs: Sequence[Results]) -> dict[str, Any]:
    """Return the arguments of the last comparison: the best trial of the last rung, and the scores of all."""
    told = [
        [{name: one[name] for name in ("trial", "rung", "rows", "score", "metrics")} for one in results[:]]
        for results in rungs
    ]
    return {"plan": plan["plan"], "digest": plan["digest"], "best": ranked(_scores(told[-1]))[0], "rungs": told}


@task(**OUTLASTING)
def winner(application: str, result: Mapping[str, Any], **context: Any) -> dict[str, Any]:
    """Return the version that is shown to be better than today: `model`, `model_digest` and its `base_model`.

    :raises AirflowSkipException: nothing is, or it was judged before and no person asks.
    """
    if not result["better"]:
        raise AirflowSkipException(result["reasons"][0])
    with deciding(application, context) as (app, _), mlflow() as server:
        refuse_judged(server, app, result["model_digest"], context)
        base = open_version(result["model"], result["model_digest"], app).base_model
        return {"model": result["model"], "model_digest": result["model_digest"], "base_model": base}


def _scores(results: Results) -> dict[int, float]:
    return {one["trial"]: one["score"] for one in results}
