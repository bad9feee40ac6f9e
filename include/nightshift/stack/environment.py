"""The environment variables that the processes of the local stack get."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from nightshift.jobs.environment import NO_GPU
from nightshift.jobs.forkserver import VARIABLE as FORKSERVER
from nightshift.settings.project import PROJECT_VARIABLE
from nightshift.stack.credentials import AUDIT_KEY, HOUSEKEEPING, USERS, passwords, stack_keys
from nightshift.stack.place import Place


def airflow_environment(place: Place) -> dict[str, str]:
    """Return the whole environment of Airflow's processes: this one's, with the stack's own settings.

    Settings of another Airflow in the caller's shell are left out, so that a local stack never reaches its database;
    connections and variables (`AIRFLOW_CONN_…`, `AIRFLOW_VAR_…`) are kept.
    """
    keys = stack_keys(place)
    settings = {
        "CORE__DAGS_FOLDER": str(place.checkout / "dags"),
        "CORE__PLUGINS_FOLDER": str(place.checkout / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "CORE__FERNET_KEY": keys["fernet_key"],
        "CORE__TEST_CONNECTION": "Disabled",
        "CORE__EXECUTION_API_SERVER_URL": f"{place.airflow_url}/execution/",
        "CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(place.passwords),
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "DATABASE__SQL_ALCHEMY_CONN": database(place, wait_seconds=60),
        "API__HOST": "127.0.0.1",
        "API__PORT": str(place.airflow_port),
        "API__BASE_URL": place.airflow_url,
        "API__WORKERS": "1",
        "API__SECRET_KEY": keys["api_secret_key"],
        "API__EXPOSE_CONFIG": "False",
        "API__EXPOSE_STACKTRACE": "False",
        "API_AUTH__JWT_SECRET": keys["jwt_secret"],
        "DAG_PROCESSOR__REFRESH_INTERVAL": "15",
        # Parsing all files takes a tenth of a small machine when it is done every half minute.
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        # The tasks of a scheduler that was killed are looked for after half a minute, not five.
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
        # A task whose worker was killed is tried again after a minute, not five.
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "LOGGING__COLORED_CONSOLE_LOG": "False",
        # A small machine that trains a model is slow at everything else; Airflow's defaults fail tasks then.
        "CORE__DAGBAG_IMPORT_TIMEOUT": "180",
        "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "240",
        "WORKERS__EXECUTION_API_TIMEOUT": "60",
        "WORKERS__EXECUTION_API_RETRIES": "10",
    }
    return {
        **_without_another_airflow(),
        **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        "AIRFLOW_HOME": str(place.airflow_home),
        PROJECT_VARIABLE: str(place.project),
        "AIRFLOW_VAR_NIGHTSHIFT_STORAGE": place.storage,
        "AIRFLOW_CONN_NIGHTSHIFT_MLFLOW": json.dumps(
            {"conn_type": "http", "host": place.mlflow_host, "port": place.mlflow_port}
        ),
        "AIRFLOW_CONN_NIGHTSHIFT_AIRFLOW": json.dumps(
            {
                "conn_type": "http",
                "host": "127.0.0.1",
                "port": place.airflow_port,
                "login": HOUSEKEEPING,
                "password": passwords(place)[HOUSEKEEPING],
            }
        ),
        **({FORKSERVER: str(place.forkserver)} if NO_GPU else {}),
        **_without_proxy(place),
        "PATH": _path(),
        "VIRTUAL_ENV": sys.prefix,
    }


def api_server_environment(place: Place) -> dict[str, str]:
    """Return the whole environment of Airflow's API server.

    Its event loop writes the audit log itself. While it waits for the database, a request that holds the database cannot
    end, so that both wait to the last second: of the usual five, after which who asked is told to ask again.
    """
    return {**airflow_environment(place), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database(place, wait_seconds=5)}


def scheduler_environment(place: Place) -> dict[str, str]:
    """Return the whole environment of the scheduler, whose processes run the tasks: with the key of the audit log."""
    return {**airflow_environment(place), AUDIT_KEY: stack_keys(place)["audit_key"]}


def database(place: Place, wait_seconds: int) -> str:
    """Return the address of Airflow's database, to which one process writes at a time and the others wait so long."""
    return f"sqlite:///{place.airflow_home / 'airflow.db'}?timeout={wait_seconds}"


def mlflow_environment() -> dict[str, str]:
    """Return the whole environment of the MLflow server."""
    return {
        **_without_another_airflow(),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "GIT_PYTHON_REFRESH": "quiet",
        "PATH": _path(),
    }


def _without_proxy(place: Place) -> dict[str, str]:
    """Let nobody ask a proxy for the stack's own servers, which it could not reach."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = dict.fromkeys([*filter(None, known.split(",")), "127.0.0.1", "localhost", place.mlflow_host])
    return dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(names))


def _without_another_airflow() -> dict[str, str]:
    kept = ("AIRFLOW_CONN_", "AIRFLOW_VAR_")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW", "MLFLOW_", AUDIT_KEY)) or name.startswith(kept)
    }


def _path() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
