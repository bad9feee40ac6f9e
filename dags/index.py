"""
### Index

Reads the documents that `retrieval:` of the application's file names, cuts them into passages and indexes these, by their
words and by vectors.

1. **index** reads all documents, embeds what is new or has changed, and publishes an index of what there is now. Rows and
   files that cannot be used are quarantined with their reason. Without any document, and without `retrieval`, it ends
   skipped: the index that is there stays. Where `retrieval.database` names a connection, vectors are put there, too.
2. **announce** emits the asset of the application's indexes, with the URI and digest of the manifest.
3. **remove_old** removes indexes of inactive versions that were not used for `retrieval.keep_days` days.

Runs by `retrieval.schedule`, or by hand. The same documents and settings give the same index, and no work.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import CronTriggerTimetable, task

from nightshift.orchestration.application_dag import application_dag, applications_to_parse
from nightshift.orchestration.assets import indexes_asset
from nightshift.orchestration.job import job
from nightshift.orchestration.old_indexes import remove_old


@task
def announce(index: dict[str, Any], *, ti: Any, outlet_events: Any) -> None:
    """Emit the indexes asset."""
    outlet_events[ti.task.outlets[0]].extra = {
        "manifest": f"{index['index']}/manifest.json",
        **{name: index[name] for name in ("digest", "documents", "chunks")},
    }


for app in applications_to_parse("index"):
    schedule = app.retrieval.schedule if app.retrieval else None
    with application_dag(
        app,
        "index",
        "Documents to an index of their passages.",
        schedule=CronTriggerTimetable(schedule, timezone=app.timezone) if schedule else None,
        doc_md=__doc__,
    ):
        announced = announce.override(outlets=[indexes_asset(app)])(job("index", app, {}).output)
        announced >> remove_old(app.name)
