"""
### Ingest

Turns the raw rows of one data interval into examples that a model can be trained and judged on.

1. **arrival** waits for the data: a file of each source, or a row of its query, until `clock.arrival_hours` after the
   interval's end. **ingest** then alerts people about missing data.
2. **ingest** reads the application's sources, normalises, removes duplicates and personal data, counts tokens, and
   splits the rows into train, traffic and held-out. Unusable rows are quarantined with their reason.
3. **validate** measures the partition and checks it with Great Expectations. A failed critical expectation stops the
   run here; too little data is its own verdict, never a pass.
4. **accept** emits the asset of the application's examples, with the URI and digest of the manifest.

Runs daily, catches up and can be backfilled: the same interval and the same sources give the same partition.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import task

from nightshift.orchestration.application_dag import application_dag, applications_to_parse, daily
from nightshift.orchestration.assets import examples_asset
from nightshift.orchestration.job import job
from nightshift.orchestration.runtime_values import INTERVAL, result_of
from nightshift.orchestration.sources_sensor import SourcesSensor


@task
def accept(partition: dict[str, Any], verdict: dict[str, Any], *, ti: Any, outlet_events: Any) -> None:
    """Emit the examples asset."""
    outlet_events[ti.task.outlets[0]].extra = {
        "manifest": f"{partition['examples']}/manifest.json",
        "digest": partition["digest"],
        "rows": partition["kept"],
        "verdict": verdict["verdict"],
    }


for app in applications_to_parse("ingest"):
    with application_dag(app, "ingest", "Raw rows to examples.", **daily(app, "to ingest"), doc_md=__doc__):
        arrival = SourcesSensor(task_id="arrival", app=app, part="examples", interval=INTERVAL)
        ingest = job("ingest", app, {"interval": INTERVAL})
        validate = job(
            "validate", app, {"examples": result_of("ingest", "examples"), "digest": result_of("ingest", "digest")}
        )

        arrival >> ingest >> validate
        accept.override(outlets=[examples_asset(app)])(ingest.output, validate.output)
