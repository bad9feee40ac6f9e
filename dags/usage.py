"""
### Usage

Logs to MLflow what pods used and cost: pods, hours, GPU-hours and cost of each DAG run, and of each training in the training's
own run, by the times that the nodes report and the `price_per_hour` of the compute profile. Every hour it reads the accounts
that Airflow's tasks and the janitor keep in storage; no account is counted twice. Once a day it measures the size of each
application's storage, for its cost.
"""

from __future__ import annotations

from nightshift.orchestration.application_dag import housekeeping_dag
from nightshift.orchestration.pod_usage import usage
from nightshift.settings.applications import clusters

if applications := {app.name: app for _, apps in clusters() for app in apps}:
    with housekeeping_dag("usage", "Log what pods used and cost.", "17 * * * *", doc_md=__doc__):
        for name, app in sorted(applications.items()):
            usage.override(task_id=f"usage_{name}", owner=app.owner)(name)
