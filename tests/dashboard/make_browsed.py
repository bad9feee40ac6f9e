"""Fills an Airflow database and a storage for the browser: `python make_browsed.py`, with the environment of that Airflow.

The application's file, its nights, decisions and messages hold text that would do harm if anything but text were made of it.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.api.common.trigger_dag import trigger_dag
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType
from hostile import HOSTILE, REPORT, RUN
from stored_application import LAST, MODELS, StoredApplication, days

from nightshift.alerts.alert import Alert
from nightshift.alerts.message import compose
from nightshift.alerts.outbox import MAILBOX, Outbox
from nightshift.ledger.records import Split
from nightshift.settings.split import Split as SplitSettings


def main() -> None:
    initdb()
    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    assert bag.import_errors == {}
    DagBundlesManager().sync_bundles_to_db()
    sync_bag_to_db(bag, "dags-folder", None)
    with create_session() as session:
        trigger_dag("helper_finetune", triggered_by=DagRunTriggeredByType.TEST, run_id=RUN, conf={}, session=session)
    storage = os.environ["AIRFLOW_VAR_NIGHTSHIFT_STORAGE"]
    app = StoredApplication(storage, "helper")
    app.champion()
    for day in days(30):
        failed = day > LAST - timedelta(days=2)
        app.interactions(day, exact_match=0.4 if failed else 0.9)
        app.bias(day, reason=HOSTILE)
        app.drift(day, "FAIL" if failed else "PASS", excess=0.6 if failed else 0.05, reason=HOSTILE, new=[HOSTILE])
    app.ledger.create(
        Split(
            number=1, decision="d", after=1, settings=SplitSettings(), key="k", version="2", model_digest=MODELS["2"],
            champion="1", champion_digest=MODELS["1"], started=datetime.now(UTC),
        )
    )  # fmt: skip
    for back, share in ((7, 0.05), (6, 0.05), (5, 0.25), (4, 0.25)):
        app.challenged(LAST - timedelta(days=back), share)
    report = next(Path(storage.removeprefix("file://"), "helper", "drift", str(LAST)).rglob("report.html"))
    report.write_text(REPORT)
    app.retraining(1, LAST, run_id=RUN)
    now = datetime.now(UTC)
    app.snooze(HOSTILE, HOSTILE, now, now + timedelta(days=1))
    outbox = Outbox(storage, "helper")
    alert = Alert(
        application="helper", kind="drift", severity="warning", title=HOSTILE, facts=[HOSTILE], condition="drift"
    )
    outbox.accept(alert)
    outbox.into_mailbox(compose([alert], MAILBOX), now)


if __name__ == "__main__":
    main()
