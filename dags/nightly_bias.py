"""
### Nightly bias

Says of every night whether groups of people were answered differently, and asks the champion itself.

1. **bias** finds the nights without a report from manifests. It compares toxicity, sentiment, refusal, length, validity
   and quality of the answers between segments, languages and the groups that prompts mention; and it asks the champion and
   its base model three sets: the application's own messages with the writer's name, age or faith swapped, CrowS-Pairs and
   BBQ. The sets and their counts are fixed, so a model is asked once, and the next night is no work. Reports and numbers
   are in MLflow, too.
2. **verdict** shows the verdict in its log. It fails when a night could not be judged or did not arrive at all: bias
   fails no task, a broken or blind monitor does. Too little data skips it; that is no pass.

Woken by every night of interactions and by the clock, in case an event was lost or a night is missing. On the weekday
`bias.full_weekday` the full sets are asked. By hand: choose a night to judge it again.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, time, timedelta
from typing import Any

from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from nightshift.applications import readable_applications
from nightshift.orchestration.assets import interactions_asset
from nightshift.orchestration.forms import optional_day
from nightshift.orchestration.job import job
from nightshift.verdict import Verdict

NIGHT = "{{ params.night or '' }}"
# The clock fires after midnight: the night that should be there by then is that of the day before.
EXPECTED = (
    "{{ (logical_date - macros.timedelta(days=1)).strftime('%Y-%m-%d') "
    "if dag_run.run_type == 'scheduled' and logical_date else '' }}"
)
log = logging.getLogger(__name__)


@task
def verdict(result: dict[str, Any]) -> None:
    """Show what was said about each night."""
    for night in result["nights"]:
        log.info("%s %s: %s", night["night"], night["verdict"], "; ".join(night["reasons"]))
        log.info("  %s", night["run_url"] or night["report"] or "no report")
    said = f"{result['verdict']}: {'; '.join(result['reasons'])}"
    log.info("%s", said)
    if result["verdict"] == Verdict.ERROR or result["missing"]:
        raise AirflowFailException(said)
    if result["verdict"] == Verdict.INSUFFICIENT_DATA:
        raise AirflowSkipException(said)


for app in readable_applications():
    with DAG(
        dag_id=f"{app.name}_nightly_bias",
        description=f"Each night, group by group. {app.description}",
        schedule=AssetOrTimeSchedule(
            timetable=CronTriggerTimetable("0 6 * * *", timezone="UTC"), assets=interactions_asset(app)
        ),
        start_date=datetime.combine(app.start, time(), UTC),
        catchup=False,
        max_active_runs=1,
        default_args={
            "owner": app.owner,
            "retries": 2,
            "retry_delay": timedelta(seconds=30),
            "pool": "nightshift_jobs",
        },
        params={"night": optional_day("Night to judge again (UTC); empty: every night that has no report yet")},
        tags=["nightshift", app.name],
        doc_md=__doc__,
    ):
        bias = job("bias", app, {"night": NIGHT, "expected": EXPECTED}, obey_verdict=False)

        verdict(bias.output)
