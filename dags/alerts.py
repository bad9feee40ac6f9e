"""
### Alerts

Delivers pending alerts and detects dead, stuck and late runs: every five minutes, for all applications.

- **look** asks Airflow for runs that failed without a word (a killed process calls nothing), tasks that hang, runs that are
  late or did not come, housekeeping that fails or is paused, and files that cannot be read; the ledger for requests that wait
  for an answer; and the accounts of pods for a budget that is nearly spent. What is over is found, too. Then it writes down
  that it looked, and calls the address of the connection `nightshift_heartbeat`, where there is one: whoever listens there
  notices when Airflow is dead.
- **deliver** sends what waits, to the routes of each application: what runs and looks keep, what a channel did not take, and
  what was too much for an hour. A channel that is down fails nothing; its messages wait.

The two know nothing of each other, so that neither keeps the other from its work: what a look found, the next delivery may be
the first to send. One application that cannot be looked after keeps no other from it; the task fails in the end and says which.
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

AT_ONCE = 8  # applications that are delivered for at the same time: one dead mail server holds up no other
DELIVER_SECONDS = 120  # for one application

log = logging.getLogger(__name__)


@task
def look() -> int:
    """Look after every application; return how much is news."""
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
                log.exception("%s could not be looked after", name)
                failed.append(name)
    if failed:
        raise AirflowException(f"could not be looked after, and the log above says why: {', '.join(failed)}")
    beat()
    return news


@task(multiple_outputs=False)
def deliver() -> dict[str, dict[str, str]]:
    """Deliver what waits; return why routes did not take it, by application and connection."""
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
            log.exception("what waits for %s could not be delivered", app.name)
            return {"outbox": type(error).__name__}

    apps = readable_applications()
    apps.append(all_applications(apps))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        troubles = dict(zip([app.name for app in apps], pool.map(of, apps), strict=True))
    for name, routes in troubles.items():
        for route, trouble in routes.items():
            log.warning("%s: %s did not take everything: %s", name, route, trouble)
    if any("outbox" in routes for routes in troubles.values()):
        raise AirflowException("an outbox could not be read or written; the log above says whose and why")
    return troubles


with housekeeping_dag("alerts", "What nobody tells, and what waits to be told.", "*/5 * * * *", doc_md=__doc__):
    look()
    deliver()
