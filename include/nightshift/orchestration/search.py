"""The light tasks of a search: the champion to beat, the trials of the next rung, and whether the best becomes a candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowSkipException

from nightshift.evaluation.halving import ranked, survivors
from nightshift.orchestration.ledger_task import LEDGER_TASK_ARGUMENTS, ledger_task, mlflow
from nightshift.orchestration.reconfigure import refuse_judged
from nightshift.registry.versions import CHAMPION
from nightshift.storage.application_version import open_version

Results = Sequence[Mapping[str, Any]]  # of mapped tasks, in the order of their arguments; a slice is one call


@task(**LEDGER_TASK_ARGUMENTS)
def today(application: str, **context: Any) -> dict[str, Any]:
    """Return the champion, as `model` and `model_digest`: the whole search compares with it, even after another release.

    :raises AirflowSkipException: the application has no `search`, or no champion.
    """
    with ledger_task(application, context) as (app, _), mlflow() as server:
        if app.search is None:
            raise AirflowSkipException("the application's file has no `search`")
        champion = server.with_alias(app.name, CHAMPION)
        if champion is None:
            raise AirflowSkipException("there is no champion yet, and a search needs its weights")
        return {"model": champion.model, "model_digest": champion.digest}


@task(**LEDGER_TASK_ARGUMENTS)
def contenders(plan: Mapping[str, Any], rungs: Sequence[Results]) -> list[dict[str, Any]]:
    """Return the arguments of each trial of the next rung.

    A single trial that is left with the champion answers no more rows, and neither does the best one once the search's minutes
    are spent. They are counted from recorded durations of answers, so that a repeated task decides the same.

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


@task(**LEDGER_TASK_ARGUMENTS)
def best(plan: Mapping[str, Any], rungs: Sequence[Results]) -> dict[str, Any]:
    """Return the arguments of the final comparison: the best trial of the last rung, and the scores of all trials."""
    told = [
        [{name: one[name] for name in ("trial", "rung", "rows", "score", "metrics")} for one in results[:]]
        for results in rungs
    ]
    return {"plan": plan["plan"], "digest": plan["digest"], "best": ranked(_scores(told[-1]))[0], "rungs": told}


@task(**LEDGER_TASK_ARGUMENTS)
def winner(application: str, result: Mapping[str, Any], **context: Any) -> dict[str, Any]:
    """Return the version that is significantly better than the champion: `model`, `model_digest` and its `base_model`.

    :raises AirflowSkipException: no trial is better, or a scheduled run finds a version judged before.
    """
    if not result["better"]:
        raise AirflowSkipException(result["reasons"][0])
    with ledger_task(application, context) as (app, _), mlflow() as server:
        refuse_judged(server, app, result["model_digest"], context)
        base = open_version(result["model"], result["model_digest"], app).base_model
        return {"model": result["model"], "model_digest": result["model_digest"], "base_model": base}


def _scores(results: Results) -> dict[int, float]:
    return {one["trial"]: one["score"] for one in results}
