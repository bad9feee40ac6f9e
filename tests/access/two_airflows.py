"""Where the Airflows of these tests live: two applications, and the environment of each auth manager."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from nightshift.settings.applications import applications_folder

ROOT = Path(__file__).parents[2]
MANAGERS = {
    "fab": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
    "simple": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
}
SIMPLE_ROLES = {"viewer": "viewer", "approver": "user", "operator": "op", "admin": "admin"}
RETURNS = """\
description: Answers questions about returns.
schedule: null
sources:
  - uri: /data/returns/{start:%Y-%m-%d}.jsonl
    columns: {prompt: question, answer: reply}
approval: {required: always, approvers: [other_approver]}
"""


def airflow_environment(manager: str, place: Path, port: int) -> dict[str, str]:
    """The environment of an Airflow that lies in `place` and has the two applications."""
    settings = {
        "CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__AUTH_MANAGER": MANAGERS[manager],
        "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in SIMPLE_ROLES.items()),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(place / "passwords.json"),
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{place}/airflow.db",
        "API__EXPOSE_CONFIG": "False",
        "API__SECRET_KEY": secrets.token_urlsafe(64),
        "API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "API__BASE_URL": f"http://127.0.0.1:{port}",
    }
    return {
        **os.environ,
        **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        "AIRFLOW_HOME": str(place),
        "AIRFLOW_VAR_NIGHTSHIFT_STORAGE": (place / "storage").as_uri(),
        "NIGHTSHIFT_PROJECT": str(place),
    }


def two_applications(folder: Path) -> None:
    folder.mkdir()
    shutil.copy(applications_folder() / "banking_assistant.yaml", folder)
    (folder / "returns_helper.yaml").write_text(RETURNS)


def make_airflow(environment: dict[str, str], place: Path) -> dict:
    """Fill the database and return what tests must know of it."""
    command = [sys.executable, str(Path(__file__).with_name("make_airflow.py")), str(place)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((place / "made.json").read_text())
