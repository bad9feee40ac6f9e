"""
### Reconfigure

Makes a candidate of a changed prompt, of other decoding settings, or of a newer index of the documents: the champion's weights,
and what the application's file says by now. Production answers with the champion's own prompt and index until the candidate is
released.

1. **changed** compares the file with the champion. Nothing changed: the run ends here, skipped. So it does for a version that
   was judged before, unless a person started it.
2. **snapshot** gathers the held-out examples of the newest days.
3. **evaluate** judges base, champion and candidate on them, each with its own prompt.
4. **reference** keeps the profile that the candidate's intervals are compared with.
5. **register** makes it a version in MLflow, without a copy of the weights, and tells who waits for one: the release.

Looks once a day. By hand: start it after an edit, so that the candidate is there minutes later.
"""

from __future__ import annotations

from itertools import pairwise

from airflow.sdk import CronTriggerTimetable

from nightshift.orchestration.announcing import announce
from nightshift.orchestration.application_dag import application_dag, applications_to_parse
from nightshift.orchestration.assets import candidate_asset
from nightshift.orchestration.given import result_of
from nightshift.orchestration.job import job
from nightshift.orchestration.reconfigure import changed

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
