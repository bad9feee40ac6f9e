"""
### Reconfigure

Makes a candidate of a changed prompt, other decoding settings, or a newer index of the documents, with the champion's weights.
Production answers with the champion's prompt and index until the candidate is released.

1. **changed** compares the file with the champion. If nothing changed, or the version was judged before and nobody started the
   run, the run ends here, skipped.
2. **snapshot** gathers the held-out examples of the newest days.
3. **evaluate** judges base, champion and candidate on them, each with its own prompt.
4. **reference** keeps the profile that the candidate's intervals are compared with.
5. **register** makes it a version in MLflow, without a copy of the weights; its asset event starts the release.

Runs once a day. By hand: start it after an edit to have the candidate minutes later.
"""

from __future__ import annotations

from itertools import pairwise

from airflow.sdk import CronTriggerTimetable

from nightshift.orchestration.application_dag import application_dag, applications_to_parse
from nightshift.orchestration.assets import candidate_asset
from nightshift.orchestration.candidate_event import announce
from nightshift.orchestration.job import job
from nightshift.orchestration.reconfigure import changed
from nightshift.orchestration.runtime_values import result_of

SNAPSHOT = {"snapshot": result_of("snapshot", "snapshot"), "digest": result_of("snapshot", "digest")}
MODEL = {"model": result_of("changed", "model"), "model_digest": result_of("changed", "model_digest")}
EVALUATION = {"evaluation": result_of("evaluate", "evaluation"), "evaluation_digest": result_of("evaluate", "digest")}

for app in applications_to_parse("reconfigure"):
    with application_dag(
        app,
        "reconfigure",
        "A changed prompt to a registered candidate.",
        schedule=CronTriggerTimetable(app.look("reconfigure"), timezone=app.timezone),
        doc_md=__doc__,
    ):
        steps = [
            changed(app.name),
            job("snapshot", app, {}),
            job("evaluate", app, {**SNAPSHOT, **MODEL, "base_model": result_of("changed", "base_model")}),
            job("reference", app, {**SNAPSHOT, **MODEL, **EVALUATION}),
            job("register", app, {**MODEL, **EVALUATION}, obey_verdict=False),
        ]
        for before, after in pairwise(steps):
            before >> after
        announce.override(outlets=[candidate_asset(app)])(steps[-1].output)
