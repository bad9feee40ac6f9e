"""
### Alerts

Delivers pending alerts and detects dead, stuck and late runs: every five minutes, for all applications.

- **look** reads from Airflow failed runs whose callback was lost (a killed process calls nothing), tasks that hang, late and
  overdue runs, failed or paused housekeeping, and unreadable files; from the ledger open approval requests; and from the
  accounts of pods a budget that is nearly spent. It also finds conditions that ended. Then it records that it looked, and calls
  the address of the connection `nightshift_heartbeat`, if there is one, so that an external monitor notices when Airflow is down.
- **deliver** sends pending alerts along the routes of each application: new ones, those that a channel refused, and those
  beyond the hourly limit. A channel that is down fails nothing; its messages wait.

The two tasks are independent, so that neither blocks the other: an alert may be sent only by the next delivery.
An application that cannot be checked does not block others; the task fails in the end and names it.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowException

from nightshift.orchestration.application_dag import housekeeping_dag
from nightshift.settings.application import Application
from nightshift.settings.applications import readable_applications

AT_ONCE = 8  # applications that are delivered for in parallel: one dead mail server does not block others
DELIVER_SECONDS = 120  # for one application

log = logging.getLogger(__name__)


@task
def look() -> int:
    """Detect problems of every application; return the number of new alerts."""
    from nightshift.alerts.global_alerts import all_applications
    from nightshift.orchestration.airflow_rest import airflow_rest
    from nightshift.orchestration.airflow_state import read_airflow_state
    from nightshift.orchestration.attempt import storage_uri
    from nightshift.orchestration.detection import detect, detect_global
    from nightshift.orchestration.heartbeat import beat

    apps, storage, news, failed = readable_applications(), storage_uri(), 0, []
    with airflow_rest() as rest:
        seen = read_airflow_state(rest, [app.name for app in apps])
        looks = {app.name: partial(detect, app, storage, rest, seen) for app in apps}
        for name, one in {
            **looks,
            "what concerns all": partial(detect_global, all_applications(apps), storage, seen),
        }.items():
            try:
                news += one()
            except Exception:  # object stores have errors of their own
                log.exception("%s could not be checked", name)
                failed.append(name)
    if failed:
        raise AirflowException(f"could not be checked, see the log above: {', '.join(failed)}")
    beat()
    return news


@task(multiple_outputs=False)
def deliver() -> dict[str, dict[str, str]]:
    """Deliver pending alerts; return the errors of routes by application and connection."""
    from nightshift.alerts.delivery import deliver as delivered
    from nightshift.alerts.global_alerts import all_applications
    from nightshift.alerts.outbox import Outbox
    from nightshift.orchestration.attempt import storage_uri

    storage = storage_uri()

    def of(app: Application) -> dict[str, str]:
        outbox = Outbox(storage, app.name)
        try:
            return delivered(app, outbox, seconds=DELIVER_SECONDS, rest_after_trouble=timedelta(0))
        except Exception as error:
            log.exception("pending alerts of %s could not be delivered", app.name)
            return {"outbox": type(error).__name__}

    apps = readable_applications()
    apps.append(all_applications(apps))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        troubles = dict(zip([app.name for app in apps], pool.map(of, apps), strict=True))
    for name, routes in troubles.items():
        for route, trouble in routes.items():
            log.warning("%s: %s did not accept all messages: %s", name, route, trouble)
    if any("outbox" in routes for routes in troubles.values()):
        raise AirflowException("an outbox could not be read or written, see the log above")
    return troubles


with housekeeping_dag(
    "alerts", "Deliver pending alerts; detect dead, stuck and late runs.", "*/5 * * * *", doc_md=__doc__
):
    look()
    deliver()
