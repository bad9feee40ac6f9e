"""
### Search

Tries prompts, few-shot examples, decoding settings and retrieval settings with the champion's weights, as listed in `search:` of
the application's file, on development rows, which no gate uses. A trial that is significantly better than the champion becomes
a candidate.

1. **today** finds the champion. An application that searches nothing ends here, skipped.
2. **snapshot** gathers the rows of the newest days, **search_plan** makes a version of every trial, with an index of its own if
   the documents are chunked differently, and draws the rows.
3. **rung_1** to **rung_3** let the trials answer, a task each. After each rung **halve** keeps the best trials, which answer more
   rows. The champion answers the same rows.
4. **search_result** compares the best trial with the champion on rows that no rung used, and logs all trials in MLflow.
5. **winner** ends the run, skipped, if no trial is better: a normal result.
6. **evaluate**, **reference**, **register** make a candidate of it, which the release treats like any other.

Runs by hand, or by `search.schedule`. A killed task continues without asking answered rows again.
"""

from __future__ import annotations

from itertools import pairwise

from airflow.sdk import CronTriggerTimetable

from nightshift.orchestration.application_dag import application_dag, applications_to_parse
from nightshift.orchestration.assets import candidate_asset
from nightshift.orchestration.candidate_event import announce
from nightshift.orchestration.job import job, mapped_job
from nightshift.orchestration.runtime_values import result_of
from nightshift.orchestration.search import best, contenders, today, winner
from nightshift.settings.search import RUNGS

SNAPSHOT = {"snapshot": result_of("snapshot", "snapshot"), "digest": result_of("snapshot", "digest")}
TODAY = {"model": result_of("today", "model"), "model_digest": result_of("today", "model_digest")}
MODEL = {"model": result_of("winner", "model"), "model_digest": result_of("winner", "model_digest")}
EVALUATION = {"evaluation": result_of("evaluate", "evaluation"), "evaluation_digest": result_of("evaluate", "digest")}

for app in applications_to_parse("search"):
    schedule = app.search.schedule if app.search else None
    with application_dag(
        app,
        "search",
        "Try prompts, examples, decoding settings and retrieval settings; the best one becomes a candidate.",
        schedule=CronTriggerTimetable(schedule, timezone=app.timezone) if schedule else None,
        doc_md=__doc__,
    ):
        plan = job("search_plan", app, {**SNAPSHOT, **TODAY})
        today(app.name) >> job("snapshot", app, {}) >> plan

        left = contenders.override(task_id="start")(plan.output, [])
        rungs = [mapped_job("search_trial", app, left, task_id="rung_1")]
        for number in range(2, RUNGS + 1):
            left = contenders.override(task_id=f"halve_{number}")(plan.output, [rung.output for rung in rungs])
            rungs.append(mapped_job("search_trial", app, left, task_id=f"rung_{number}"))
        last = best(plan.output, [rung.output for rung in rungs])
        result = job(
            "search_result", app, {name: result_of("best", name) for name in ("plan", "digest", "best", "rungs")}
        )
        last >> result
        steps = [
            winner(app.name, result.output),
            job("evaluate", app, {**SNAPSHOT, **MODEL, "base_model": result_of("winner", "base_model")}),
            job("reference", app, {**SNAPSHOT, **MODEL, **EVALUATION}),
            job(
                "register",
                app,
                {**MODEL, **EVALUATION, "search": result_of("search_result", "search")},
                obey_verdict=False,
            ),
        ]
        for before, after in pairwise(steps):
            before >> after
        announce.override(outlets=[candidate_asset(app)])(steps[-1].output)
