"""Idempotent MLflow runs: a run is found again by its key, so that a retried job completes it."""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# MLflow's defaults wait minutes for a server that is down; Airflow's retries do that better.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import requests
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from nightshift.code_version import code_version
from nightshift.errors import BadEnvironment
from nightshift.registry.rest import KEY_TAG
from nightshift.registry.server import pages, without_login

BATCH = 100  # parameters or tags that MLflow takes in one call

log = logging.getLogger(__name__)


@contextmanager
def reachable() -> Iterator[None]:
    """Raise errors of the tracking server as BadEnvironment.

    :raises BadEnvironment: the tracking server does not answer, or with a server error.
    """
    try:
        yield
    except requests.RequestException as error:
        raise _down(error) from error
    except MlflowException as error:
        if error.get_http_status_code() in {400, 404, 409} and "Max retries" not in str(error):
            raise
        raise _down(error) from error


def _down(error: Exception) -> BadEnvironment:
    where = without_login(os.environ.get("MLFLOW_TRACKING_URI", "MLflow's default store"))
    words = without_login(" ".join(str(error).split()))[:500]
    status = error.get_http_status_code() if isinstance(error, MlflowException) else None
    if status in {401, 403}:
        advice = "Check the login of the Airflow connection nightshift_mlflow, and what that user may do."
    elif "error responses" not in words and (status is None or "failed with exception" in words):
        advice = "Is the server running?"
    else:
        advice = "See its log."
    return BadEnvironment(
        f"MLflow at {where} does not accept the results: {words}\n{advice} The results are kept in storage, and the next "
        "try only logs them"
    )


class TrackingRun:
    """One MLflow run in the experiment of an application, created once per `key`.

    :raises BadEnvironment: the tracking server cannot be reached (every method).
    """

    def __init__(self, application: str, key: str, name: str, tags: Mapping[str, str] | None = None) -> None:
        self.client = MlflowClient()
        with reachable():
            self.experiment_id = experiment_of(self.client, application)
            run = find_run(self.client, self.experiment_id, key) or self.client.create_run(
                self.experiment_id,
                run_name=name,
                tags={
                    KEY_TAG: key,
                    "nightshift.application": application,
                    "nightshift.code_version": code_version(),
                },
            )
        self.run_id: str = run.info.run_id
        self.tags({"mlflow.runName": name, **(tags or {})})

    @property
    def url(self) -> str:
        """The address of this run's page."""
        return f"{pages(self.client.tracking_uri)}/#/experiments/{self.experiment_id}/runs/{self.run_id}"

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters; nested values become JSON. An existing parameter keeps its value."""
        with reachable():
            known = self.client.get_run(self.run_id).data.params
            new = [Param(key, _text(value)) for key, value in values.items() if key not in known]
            for start in range(0, len(new), BATCH):
                self.client.log_batch(self.run_id, params=new[start : start + BATCH])

    def metrics(self, values: Mapping[str, float], step: int = 0, timestamp: int | None = None) -> None:
        """Log numbers of one step.

        :param timestamp: of the measurement, in milliseconds; repeated points with equal timestamps are stored once.
            None: now, so that a repeated number is another point of the same step, of which MLflow shows the newest.
        """
        moment = timestamp or int(time.time() * 1000)
        with reachable():
            self.client.log_batch(self.run_id, metrics=[Metric(k, float(v), moment, step) for k, v in values.items()])

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        with reachable():
            self.client.log_batch(self.run_id, tags=[RunTag(key, _text(value)) for key, value in values.items()])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file or a folder."""
        with reachable():
            if path.is_dir():
                self.client.log_artifacts(self.run_id, str(path), folder)
            else:
                self.client.log_artifact(self.run_id, str(path), folder)

    def reopen(self) -> None:
        """Mark the run as running, whatever its status after an earlier attempt."""
        with reachable():
            self.client.update_run(self.run_id, status="RUNNING")

    def finish(self, status: str = "FINISHED") -> None:
        """Mark the run as ended: `FINISHED` or `FAILED`."""
        with reachable():
            self.client.set_terminated(self.run_id, status)


class LiveMetrics:
    """Metrics of a running training: written to disk at once, and sent to MLflow without failing or slowing the training.

    Each line of the file is `{"step": …, "timestamp": milliseconds, "metrics": {…}}`; :func:`replay` sends those that
    MLflow missed.
    """

    def __init__(self, path: Path, run: TrackingRun | None) -> None:
        self._file = path.open("a", buffering=1)
        self._run = run
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the numbers of one step."""
        entry = {"step": step, "timestamp": int(time.time() * 1000), "metrics": dict(metrics)}
        self._file.write(json.dumps(entry) + "\n")
        self._queue.put(entry)

    def close(self) -> None:
        """Wait until all queued numbers were sent or given up."""
        self._queue.put(None)
        self._thread.join()
        self._file.close()

    def _send(self) -> None:
        while (entry := self._queue.get()) is not None:
            if self._run is None:
                continue
            try:
                self._run.metrics(entry["metrics"], entry["step"], entry["timestamp"])
            except (BadEnvironment, MlflowException) as error:
                log.warning("MLflow does not answer; the metrics are kept on disk and sent at the end (%s)", error)
                self._run = None


@contextmanager
def system_metrics(run: TrackingRun | None, seconds: float = 30) -> Iterator[None]:
    """Log the load of this machine's processors, memory, disk, network and NVIDIA GPUs regularly as MLflow's `system/…`.

    It stops if MLflow does not answer; the training goes on, and at its end waits at most two seconds for the last numbers.
    """
    monitor = None
    if run is not None:
        try:
            monitor = SystemMetricsMonitor(run.run_id, sampling_interval=seconds, resume_logging=True)
            monitor.start()
        except Exception as error:  # drivers and servers have errors of their own
            log.warning("training goes on without system metrics (%s)", error)
    try:
        yield
    finally:
        if monitor:
            ending = threading.Thread(target=monitor.finish, daemon=True)
            ending.start()
            ending.join(2)


def replay(path: Path, run: TrackingRun) -> int:
    """Send every line of a metrics file; return their number. MLflow ignores those that it has."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    metrics = [
        Metric(key, float(value), line["timestamp"], line["step"])
        for line in lines
        for key, value in line["metrics"].items()
    ]
    with reachable():
        for start in range(0, len(metrics), 1000):
            run.client.log_batch(run.run_id, metrics=metrics[start : start + 1000])
    return len(lines)


def replace_artifacts(application: str, key: str, files: list[Path], folder: str | None = None) -> None:
    """Replace artifacts of the run with this key by files of the same names; no others are added.

    :raises BadEnvironment: MLflow cannot be reached.
    """
    client = MlflowClient()
    with reachable():
        experiment = client.get_experiment_by_name(application)
        run = experiment and find_run(client, str(experiment.experiment_id), key)
        if run is None:
            return
        known = {Path(one.path).name for one in client.list_artifacts(run.info.run_id, folder)}
        for file in files:
            if file.name in known:
                client.log_artifact(run.info.run_id, str(file), folder)


def finished_keys(application: str, job: str) -> set[str]:
    """Return the keys of the newest 1,000 finished runs of a job.

    :raises BadEnvironment: MLflow cannot be reached.
    """
    client = MlflowClient()
    with reachable():
        experiment = client.get_experiment_by_name(application)
        if experiment is None:
            return set()
        found = client.search_runs(
            [str(experiment.experiment_id)],
            f"attributes.status = 'FINISHED' AND tags.`nightshift.job` = '{job}'",
            max_results=1000,
            order_by=["start_time DESC"],
        )
    return {run.data.tags[KEY_TAG] for run in found}


def find_run(client: MlflowClient, experiment_id: str, key: str) -> Run | None:
    """Return the run with this `key`, or None."""
    found = client.search_runs(
        [experiment_id], f"tags.`{KEY_TAG}` = '{key}'", order_by=["start_time ASC"], max_results=1
    )
    return found[0] if found else None


def experiment_of(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment, created if necessary."""
    experiment = client.get_experiment_by_name(name)
    if experiment:
        return str(experiment.experiment_id)
    try:
        return str(client.create_experiment(name))
    except MlflowException:
        # Another process created it at the same time.
        if (experiment := client.get_experiment_by_name(name)) is None:
            raise
        return str(experiment.experiment_id)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
