"""Where the local stack lives: its folders, ports and addresses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nightshift.errors import BadEnvironment, BadInput
from nightshift.settings.project import PACKAGE, project_folder
from nightshift.storage.files import default_storage, uri_of

CHECKOUT = Path(__file__).resolve().parents[3]
# What a wheel holds of the files that lie beside the package in a checkout.
INSTALLED = PACKAGE / "deployment"
AIRFLOW_PORT = "NIGHTSHIFT_AIRFLOW_PORT"
MLFLOW_PORT = "NIGHTSHIFT_MLFLOW_PORT"
# An address of this machine that pods reach, where jobs run in a cluster; otherwise nothing listens beyond loopback.
MLFLOW_HOST = "NIGHTSHIFT_MLFLOW_HOST"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Place:
    """One local stack, which serves one project.

    Everything it writes is below `home`, but for data when `NIGHTSHIFT_STORAGE` names a place.

    :param checkout: holds `dags`, `plugins` and `airflow_settings.yaml`; of an installed package a folder in it.
    """

    checkout: Path
    project: Path
    home: Path
    airflow_port: int
    mlflow_port: int
    storage: str
    mlflow_host: str = LOOPBACK

    @property
    def airflow_home(self) -> Path:
        return self.home / "airflow"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def processes(self) -> Path:
        return self.home / "processes"

    @property
    def passwords(self) -> Path:
        return self.home / "passwords.json"

    @property
    def forkserver(self) -> Path:
        return self.home / "forkserver.sock"

    @property
    def settings(self) -> Path:
        return self.checkout / "airflow_settings.yaml"

    @property
    def airflow_url(self) -> str:
        return f"http://127.0.0.1:{self.airflow_port}"

    @property
    def mlflow_url(self) -> str:
        return f"http://{self.mlflow_host}:{self.mlflow_port}"


def this_place(environment: Mapping[str, str] | None = None, checkout: Path | None = None) -> Place:
    """Return the stack that `NIGHTSHIFT_PROJECT`, `NIGHTSHIFT_HOME`, `NIGHTSHIFT_STORAGE`, `NIGHTSHIFT_MLFLOW_HOST` and the
    ports describe. Without a home of its own the stack of a project is in that project's folder, and that of the sample in the
    checkout, or in the user's home where the package is installed without one.

    :raises BadEnvironment: a port is not a port, or there are no DAG files.
    :raises BadInput: there is no such project.
    """
    variables = os.environ if environment is None else environment
    installed = checkout is None and INSTALLED.is_dir()
    checkout = checkout or (INSTALLED if installed else CHECKOUT)
    if not (checkout / "dags").is_dir():
        raise BadEnvironment(
            f"{checkout} holds no dags folder: the local stack runs from a checkout of Nightshift, or from its wheel "
            "(pip install nightshift-genai)"
        )
    project = project_folder(variables)
    own = project if project != PACKAGE else Path.home() if installed else checkout
    home = Path(variables.get("NIGHTSHIFT_HOME") or own / ".nightshift").expanduser().absolute()
    airflow_port = _port(variables, AIRFLOW_PORT, 8080)
    mlflow_port = _port(variables, MLFLOW_PORT, 5000)
    if airflow_port == mlflow_port:
        raise BadEnvironment(f"{AIRFLOW_PORT} and {MLFLOW_PORT} are both {airflow_port}; give them different ports")
    return Place(
        checkout=checkout,
        project=project,
        home=home,
        airflow_port=airflow_port,
        mlflow_port=mlflow_port,
        storage=variables.get("NIGHTSHIFT_STORAGE") or uri_of(home / "storage"),
        mlflow_host=variables.get(MLFLOW_HOST) or LOOPBACK,
    )


def storage_here() -> str:
    """Return the URI of the storage of the stack of this checkout where there is one, else of this process."""
    try:
        place = this_place()
    except BadEnvironment:
        return default_storage()
    return place.storage if place.home.is_dir() else default_storage()


def find_mlflow(mlflow: str | None) -> None:
    """Have this process find MLflow: where it is told, where the environment says, or in the local stack.

    :raises BadInput: nobody says where it is.
    """
    if mlflow or "MLFLOW_TRACKING_URI" not in os.environ:
        try:
            os.environ["MLFLOW_TRACKING_URI"] = mlflow or this_place().mlflow_url
        except BadEnvironment as error:
            raise BadInput(
                f"there is no local stack; say where MLflow is by --mlflow or MLFLOW_TRACKING_URI ({error})"
            ) from error


def _port(variables: Mapping[str, str], name: str, default: int) -> int:
    text = variables.get(name) or str(default)
    if not text.isdigit() or not 0 < int(text) < 65_536:
        raise BadEnvironment(f"{name}={text!r} is not a port (1 to 65535)")
    return int(text)
