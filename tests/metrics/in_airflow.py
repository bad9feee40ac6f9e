"""What Airflow's database says, for the tests of metrics: runs, tasks, heartbeats, and what a job took."""

from datetime import UTC, datetime, timedelta

DAG = """\
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
for name in ("bank_finetune", "nightshift_alerts"):
    with DAG(name, schedule=None):
        EmptyOperator(task_id="train") >> EmptyOperator(task_id="evaluate")
"""


def ago(**some):
    return datetime.now(UTC) - timedelta(**some)


def write_dags(folder):
    """Have Airflow know the DAGs of `bank`, and housekeeping."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models.dag import DagModel
    from airflow.utils.db import synchronize_log_template
    from airflow.utils.session import create_session

    (folder / "dags.py").write_text(DAG)
    synchronize_log_template()
    DagBundlesManager().sync_bundles_to_db()
    sync_bag_to_db(DagBag(folder), "dags-folder", None)
    with create_session() as session:
        session.get(DagModel, "nightshift_alerts").is_paused = False


def run(run_id, *, dag_id="bank_finetune", state="running", tasks=None, work=None):
    """A DAG run; `tasks` as state and minutes since its task waits, `work` as an XCom of the task `train`."""
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType

    with create_session() as session:
        made = trigger_dag(dag_id, triggered_by=DagRunTriggeredByType.TEST, run_id=run_id, conf={}, session=session)
        made.state, made.start_date, made.end_date = (
            state,
            ago(hours=1),
            datetime.now(UTC) if state == "success" else None,
        )
        for task_id, (task_state, minutes) in (tasks or {}).items():
            task = made.get_task_instance(task_id, session=session)
            task.state, task.queued_dttm, task.scheduled_dttm = (
                task_state,
                ago(minutes=minutes),
                ago(minutes=minutes + 1),
            )
        if work:
            XComModel.set("work", work, dag_id=dag_id, task_id="train", run_id=run_id, session=session)


def beat(job_type, seconds_ago):
    """A component of Airflow that was last alive so long ago."""
    from airflow.jobs.job import Job
    from airflow.utils.session import create_session

    with create_session() as session:
        session.query(Job).filter(Job.job_type == job_type).delete()
        session.add(Job(job_type=job_type, state="running", latest_heartbeat=ago(seconds=seconds_ago)))
