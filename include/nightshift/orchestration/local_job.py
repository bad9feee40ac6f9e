"""The embedded back end: a job as a process group of the Airflow worker."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from nightshift.errors import ExitCode, JobError, meaning
from nightshift.jobs.forkserver import VARIABLE as FORKSERVER
from nightshift.jobs.progress import as_text
from nightshift.orchestration.attempt import job_environment
from nightshift.orchestration.job_task import EnvironmentDown, JobFailed, JobTask, as_airflow
from nightshift.orchestration.process_group import ProcessGroup
from nightshift.settings.applications import load_compute
from nightshift.settings.compute import LocalCompute


class LocalJob(JobTask):
    """Runs the job as a process group of this worker."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._group: ProcessGroup | None = None

    def execute(self, context: Any) -> dict[str, Any]:
        """Run the job to its end, waiting out outages of what it needs.

        :raises AirflowFailException: the input is wrong, or the verdict is FAIL or ERROR; no retry can help.
        :raises AirflowSkipException: the verdict is INSUFFICIENT_DATA.
        :raises JobFailed: anything else; Airflow's retries apply.
        """
        with self.waiting_out_outages(context):
            return self._run(context)

    def _run(self, context: Any) -> dict[str, Any]:
        attempt = self.prepared(context)
        try:
            compute = load_compute(self.compute)
            assert isinstance(compute, LocalCompute)  # noqa: S101  (the profile's back end chose this class)
            environment = job_environment(attempt.spec, self.job, compute)
        except JobError as error:
            raise as_airflow(error) from error
        command = [self.job, "--spec", attempt.spec_uri, "--result", attempt.result_uri]
        self.log.info("nightshift %s", " ".join(command))
        self._group = ProcessGroup(
            [sys.executable, "-m", "nightshift", *command, "--end-with-parent"],
            environment=environment,
            cpus=compute.cpus,
            memory_gb=compute.memory_gb,
            on_line=self._log_line,
            forkserver=Path(server) if (server := os.environ.get(FORKSERVER)) else None,
        )
        code = self._group.wait()
        if code != ExitCode.OK:
            raise _failure(self.job, code, self._group)
        return self.answer(attempt.spec, attempt.result_uri, context)

    def on_kill(self) -> None:
        """Stop the whole process group."""
        if self._group:
            self._group.stop()

    def _log_line(self, stream: str, line: str) -> None:
        if not line.strip():
            return
        if stream == "stderr":
            level, _, text = line.partition(" ")
            number = logging.getLevelNamesMapping().get(level)
            self.log.log(number or logging.INFO, "%s", text if number else line)
            return
        try:
            event = json.loads(line)
        except ValueError:
            self.log.info("%s", line)
            return
        self.log.info("%s", as_text(event))


def _failure(job: str, code: int, group: ProcessGroup) -> AirflowException:
    if group.over_limit:
        return JobFailed(
            f"{job} was stopped: it used {group.peak_gb:.2f} GB, its compute profile allows {group.memory_gb:g} GB; "
            "raise memory_gb or reduce the job's load"
        )
    if code < 0:
        return JobFailed(f"{job} was killed by {signal.Signals(-code).name}; its log is above")
    errors = {ExitCode.BAD_INPUT: AirflowFailException, ExitCode.BAD_ENVIRONMENT: EnvironmentDown}
    error = errors.get(code, JobFailed)  # type: ignore[call-overload]
    return error(f"{job} ended with exit code {code}: {meaning(code)}; the reason is in the log above")
