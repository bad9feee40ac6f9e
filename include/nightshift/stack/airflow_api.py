"""The few calls of Airflow's REST API that the local stack needs."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any, Self

import httpx

from nightshift.errors import BadEnvironment
from nightshift.stack.credentials import passwords
from nightshift.stack.place import Place

USER = "operator"
RETRIES, RETRY_SECONDS = 5, 2.0


class AirflowApi:
    """A session of a user of the stack.

    :raises BadEnvironment: Airflow does not answer, or refuses (every method).
    """

    def __init__(self, place: Place, user: str = USER) -> None:
        self._place, self._user = place, user
        # The stack is on this machine: a proxy of the environment has no part in it.
        self._client = httpx.Client(base_url=place.airflow_url, timeout=60, trust_env=False)

    def __enter__(self) -> Self:
        body = {"username": self._user, "password": passwords(self._place)[self._user]}
        token = self._call("POST", "/auth/token", json=body)["access_token"]
        self._client.headers["Authorization"] = f"Bearer {token}"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def has_dag(self, dag: str) -> bool:
        """Whether the DAG processor has seen this DAG."""
        return bool(self._call("GET", f"/api/v2/dags/{dag}", accept={404}))

    def import_errors(self) -> list[str]:
        """Return what is wrong with DAG files, one text a file."""
        errors = self._call("GET", "/api/v2/importErrors")["import_errors"]
        return [f"{error['filename']}: {error['stack_trace'].strip().splitlines()[-1]}" for error in errors]

    def unpause(self, dag: str) -> None:
        """Let the runs of a DAG start."""
        self._call("PATCH", f"/api/v2/dags/{dag}", json={"is_paused": False})

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """Return the newest 100 runs of a DAG."""
        newest = {"limit": 100, "order_by": "-run_after"}
        return list(self._call("GET", f"/api/v2/dags/{dag}/dagRuns", params=newest)["dag_runs"])

    def trigger(self, dag: str, run: str, conf: dict[str, Any]) -> None:
        """Start a run under an id of our own."""
        body = {"dag_run_id": run, "logical_date": None, "conf": conf}
        # 409: there is such a run, since a first answer was lost.
        self._call("POST", f"/api/v2/dags/{dag}/dagRuns", accept={409}, json=body)

    def clear(self, dag: str, run: str) -> None:
        """Let all tasks of a run that ended run again; a job finds the partitions that it made before."""
        self._call("POST", f"/api/v2/dags/{dag}/dagRuns/{run}/clear", json={"dry_run": False})

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        return list(self._call("GET", f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"])

    def tasks_in(self, *states: str) -> list[dict[str, Any]]:
        """Return the task instances of all DAGs that are in one of these states (100 at most)."""
        parameters = {"state": states, "limit": 100}
        return list(self._call("GET", "/api/v2/dags/~/dagRuns/~/taskInstances", params=parameters)["task_instances"])

    def tasks_since(self, dag: str, since: datetime) -> list[dict[str, Any]]:
        """Return the task instances of all runs of a DAG that started since then."""
        path = f"/api/v2/dags/{dag}/dagRuns/~/taskInstances"
        found: list[dict[str, Any]] = []
        while True:
            parameters = {"start_date_gte": since.isoformat(), "limit": 100, "offset": len(found)}
            page = self._call("GET", path, params=parameters)
            found += page["task_instances"]
            if len(found) >= page["total_entries"] or not page["task_instances"]:
                return found

    def scheduler_heartbeat(self) -> datetime | None:
        """Return when the scheduler last came through its loop."""
        text = self._call("GET", "/api/v2/monitor/health")["scheduler"]["latest_scheduler_heartbeat"]
        return datetime.fromisoformat(text) if text else None

    def variable(self, key: str) -> str | None:
        """Return the value of a variable; None: there is none."""
        return self._call("GET", f"/api/v2/variables/{key}", accept={404}).get("value")

    def result(self, dag: str, run: str, task: str) -> dict[str, Any]:
        """Return what a task returned; nothing where it returned nothing."""
        path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value"
        answer = self._call("GET", path, params={"deserialize": "true"}, accept={404})
        value = answer.get("value")
        return value if isinstance(value, dict) else {}

    def log_lines(self, dag: str, run: str, task: str, attempt: int, map_index: int = -1) -> list[str]:
        """Return the log of one try of a task, as lines.

        :param map_index: of a mapped task; -1: it is none.
        """
        path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{attempt}"
        answer = self._call("GET", path, params={"full_content": "true", "map_index": map_index}, accept={404})
        return [line for entry in answer.get("content") or [] for line in _as_lines(entry)]

    def page(self, dag: str, run: str, task: str | None = None) -> str:
        """Return the address of a run, or of a task with its log, in Airflow's own pages."""
        return f"{self._place.airflow_url}/dags/{dag}/runs/{run}" + (f"/tasks/{task}" if task else "")

    def _call(self, method: str, path: str, accept: set[int] | None = None, **options: Any) -> dict[str, Any]:
        try:
            for retry in range(RETRIES + 1):
                answer = self._client.request(method, path, **options)
                if answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR or retry == RETRIES:
                    break
                time.sleep(RETRY_SECONDS)  # its database was in use by others
        except httpx.HTTPError as error:
            raise BadEnvironment(
                f"Airflow at {self._place.airflow_url} does not answer ({error}). `make up` starts what died; "
                f"the logs are in {self._place.logs}"
            ) from error
        if answer.is_success:
            return dict(answer.json())
        if answer.status_code in (accept or ()):
            return {}
        raise BadEnvironment(f"Airflow refused {method} {path} ({answer.status_code}): {answer.text[:500]}")


def _as_lines(entry: dict[str, Any] | str) -> list[str]:
    """One entry of a task's log as text; Airflow's group marks are left out."""
    if isinstance(entry, str):
        return [entry]
    if entry["event"].startswith("::"):
        return []
    level = str(entry.get("level", "")).upper()
    text = f"{level} {entry['event']}" if level in {"WARNING", "ERROR", "CRITICAL"} else entry["event"]
    causes = [f"{cause['exc_type']}: {cause['exc_value']}" for cause in (entry.get("error_detail") or [])[:1]]
    return "\n".join([text, *causes]).splitlines()
