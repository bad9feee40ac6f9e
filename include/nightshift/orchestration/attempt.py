"""One attempt of a task at a job: its spec, the address of its result, and the environment of the job."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow.sdk import Connection, Variable
from airflow.sdk.exceptions import AirflowNotFoundException
from pydantic import ValidationError
from upath import UPath

from nightshift.errors import BadInput
from nightshift.jobs.contract import JobSpec, job_module
from nightshift.jobs.environment import CREDENTIALS, PASSED, allowed
from nightshift.jobs.ingest import ID_KEY_VARIABLE
from nightshift.registry.server import PAGES, TLS
from nightshift.settings.applications import load_application
from nightshift.settings.compute import MEMORY_VARIABLE, LocalCompute
from nightshift.settings.intake import Source
from nightshift.storage.files import default_storage

SEARCHING = {"search_trial", "search_result"}
JUDGING = {"evaluate", "score", "shadow", "replay", "reference", *SEARCHING}  # jobs that call the application's judge
ANSWERING = {"generate", "evaluate", "bias", "shadow", "replay", *SEARCHING}  # jobs that call the application's model
RETRIEVING = {"index", *ANSWERING}
EMBEDDING = {"search_plan", *RETRIEVING}  # jobs that embed passages or questions
STORAGE_VARIABLE = "nightshift_storage"
MLFLOW_CONNECTION = "nightshift_mlflow"
ID_KEY_CONNECTION = "nightshift_id_key"  # its password is the key with which ids that hold personal data are hashed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempt:
    """Where one attempt reads its spec and writes its result."""

    job: str
    spec: JobSpec
    location: UPath

    @property
    def spec_uri(self) -> str:
        """URI of the spec; `nightshift <job> --spec` runs the same job again from a shell."""
        return str(self.location / "spec.json")

    @property
    def result_uri(self) -> str:
        """URI of the result of this attempt alone."""
        return str(self.location / "result.json")


def new_attempt(job: str, application: str, arguments: Mapping[str, Any], context: Mapping[str, Any]) -> Attempt:
    """Return the attempt of the running task. The job's defaults apply to arguments that are not given.

    :raises BadInput: the arguments do not fit the job, or the run was started with undeclared parameters.
    """
    refuse_unknown(context)
    app = load_application(application)
    storage = storage_uri()
    try:
        spec = job_module(job).Spec(application=app, storage=storage, **_without_none(arguments))
    except ValidationError as error:
        raise BadInput(f"invalid arguments of the job {job}: {error}") from error
    ti = context["ti"]
    place = results_of(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
    return Attempt(job, spec, UPath(storage).joinpath(app.name, *place, f"try-{ti.try_number}"))


def refuse_unknown(context: Mapping[str, Any]) -> None:
    """Refuse undeclared keys of a run's conf: Airflow merges them into its params, and a typo would have no effect.

    :raises BadInput: there are undeclared keys.
    """
    conf = context["dag_run"].conf or {}
    declared = set(context["dag"].params)
    if unknown := sorted(set(conf) - declared):
        raise BadInput(f"this run was started with unknown parameters {unknown}; known are {sorted(declared)}")


def results_of(dag_id: str, run_id: str, task_id: str, map_index: int | None) -> tuple[str, ...]:
    """Return the folders, below the application's place in storage, that hold the results of a task's tries."""
    mapped = (str(map_index),) if map_index is not None and map_index >= 0 else ()
    return ("results", *(_slug(part) for part in (dag_id, run_id, task_id)), *mapped)


def job_environment(spec: JobSpec, job: str, compute: LocalCompute) -> dict[str, str]:
    """Return the environment of a job: the allow-list, the tracking server, and the credentials of storage and sources."""
    sources = sources_of(spec, job)
    places = [spec.storage, *(source.uri for source in sources if source.uri)]
    patterns = [*PASSED, *compute.pass_environment]
    for protocols, names in CREDENTIALS.items():
        if any(f"{protocol}://" in place for protocol in protocols for place in places):
            patterns += names
    environment = allowed(os.environ, patterns)
    environment["OMP_NUM_THREADS"] = str(compute.cpus)
    environment[MEMORY_VARIABLE] = str(compute.memory_gb)
    environment |= tracking_environment()
    judge = spec.application.judge
    if job in JUDGING and judge and judge.connection:
        try:
            key = _connection(judge.connection, "the judge is asked without a key").password
        except BadInput as error:
            log.warning("%s", error)
        else:
            environment["NIGHTSHIFT_JUDGE_KEY"] = key or ""
    if connection := endpoint_connection(spec, job):
        key = _connection(connection, "inference.endpoint names it: add it, or correct the name").password
        environment["NIGHTSHIFT_ENDPOINT_KEY"] = key or ""
    if connection := vector_database(spec, job):
        found = _connection(connection, "retrieval.database names it: add it, or correct the name")
        environment[f"AIRFLOW_CONN_{connection.upper()}"] = found.get_uri()
    for variable, connection in embedder_connections(spec, job).items():
        why = "the endpoint of a retrieval's embedder names it: add it, or correct the name"
        environment[variable] = _connection(connection, why).password or ""
    if key := id_key_of(spec, job):
        environment[ID_KEY_VARIABLE] = key
    return environment | source_environment(sources)


def endpoint_connection(spec: JobSpec, job: str) -> str | None:
    """Return the connection with the key of the endpoint that a job calls; None if it calls none, or needs no key."""
    endpoint = spec.application.inference.endpoint
    return endpoint.connection if endpoint and job in ANSWERING else None


def embedder_connections(spec: JobSpec, job: str) -> dict[str, str]:
    """Return the connections with the keys of a job's embedding endpoints, by environment variable."""
    endpoints = [one.endpoint for one in spec.application.embedding_endpoints if one.endpoint and job in EMBEDDING]
    return {one.key_variable: one.connection for one in endpoints if one.connection and one.key_variable}


def vector_database(spec: JobSpec, job: str) -> str | None:
    """Return the connection of the job's vector database; None if it has none."""
    retrieval = spec.application.retrieval
    return retrieval.database if retrieval and job in RETRIEVING else None


def id_key_of(spec: JobSpec, job: str) -> str:
    """Return the installation's key for ids and subjects; empty if there is none, or the job does not read ids."""
    if not any(source.columns.keyed for source in sources_of(spec, job)):
        return ""
    try:
        return Connection.get(ID_KEY_CONNECTION).password or ""
    except AirflowNotFoundException:
        return ""


def source_environment(sources: Iterable[Source]) -> dict[str, str]:
    """Return the Airflow connections that sources name, as variables of an environment.

    :raises BadInput: there is no such connection.
    """
    environment = {}
    for source in sources:
        if source.connection:
            connection = _connection(
                source.connection, f"the source {source.name!r} names it: add it, or correct the name"
            )
            environment[f"AIRFLOW_CONN_{source.connection.upper()}"] = connection.get_uri()
    return environment


def tracking_environment() -> dict[str, str]:
    """Return the environment variables of MLflow's client.

    :raises BadInput: there is no connection to it.
    """
    return environment_of(mlflow_connection())


def environment_of(mlflow: Any) -> dict[str, str]:
    """Return the environment variables of MLflow's client for a connection; certificates are those of this process."""
    environment = {"MLFLOW_TRACKING_URI": tracking_uri(mlflow), **allowed(os.environ, TLS), **mlflow_pages(mlflow)}
    if mlflow.login:
        environment["MLFLOW_TRACKING_USERNAME"] = mlflow.login
        environment["MLFLOW_TRACKING_PASSWORD"] = mlflow.password or ""
    elif token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        environment["MLFLOW_TRACKING_TOKEN"] = token
    return environment


def mlflow_pages(mlflow: Any) -> dict[str, str]:
    """Return the address of MLflow's pages for people, if it differs from the address for jobs."""
    public = mlflow.extra_dejson.get("public_url") or os.environ.get(PAGES)
    return {PAGES: str(public)} if public else {}


def storage_uri() -> str:
    """Return the URI of this Airflow's storage."""
    return str(Variable.get(STORAGE_VARIABLE, default=None) or default_storage())


def sources_of(spec: JobSpec, job: str) -> list[Source]:
    """Return the sources that a job reads."""
    application = spec.application
    if job == "index" and application.retrieval:
        return [documents.source for documents in application.retrieval.documents]
    if job == "feedback" and application.feedback:
        return list(application.feedback.every_source)
    return [*application.sources, *application.traffic.sources] if job == "ingest" else []


def mlflow_connection() -> Connection:
    """Return the connection of the tracking server.

    :raises BadInput: there is none.
    """
    return _connection(
        MLFLOW_CONNECTION, "add one (type http, host and port of the MLflow server) or load airflow_settings.yaml"
    )


def _connection(name: str, advice: str) -> Connection:
    try:
        return Connection.get(name)
    except AirflowNotFoundException:
        raise BadInput(f"there is no Airflow connection {name!r}; {advice}") from None


def tracking_uri(connection: Connection) -> str:
    """Return the address of the tracking server that a connection names."""
    host = connection.host or "127.0.0.1"
    if "://" not in host:
        # A connection given as a URI has its scheme as its type.
        scheme = connection.schema or ("https" if connection.conn_type == "https" else "http")
        host = f"{scheme}://{host}"
    return host if connection.port is None else f"{host}:{connection.port}"


def _without_none(value: Any) -> Any:
    """Leave out arguments that are None, so that the job's defaults apply."""
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return value


def _slug(text: str) -> str:
    """A folder name for text that people typed: different texts get different names."""
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip(".-")[:80]
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
