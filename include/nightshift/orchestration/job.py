"""The operator that runs a job as a local process group; its result is the task's return value."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Mapping
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from nightshift.applications import load_compute
from nightshift.config import Application
from nightshift.data.storage import replace
from nightshift.errors import ExitCode, JobError
from nightshift.jobs.contract import read_result
from nightshift.orchestration.attempt import Attempt, job_environment, new_attempt
from nightshift.orchestration.process_group import ProcessGroup
from nightshift.verdict import Verdict


class JobFailed(AirflowException):
    """The job ended without success; trying again may help."""


class JobOperator(BaseOperator):
    """Runs `nightshift <job>` and returns its result.

    :param application: name of the application whose work it is.
    :param job: name of the job.
    :param arguments: fields of the job's spec beyond application and storage (templated); what renders to an empty
        text is left to the job's default.
    :param compute: name of the compute profile.
    :param obey_verdict: stop the flow by the result's verdict: INSUFFICIENT_DATA skips what follows, FAIL and ERROR
        fail the task for good. Otherwise the verdict is only passed on.
    """

    template_fields = ("arguments",)
    template_fields_renderers = {"arguments": "json"}  # noqa: RUF012  (Airflow's own form)
    ui_color = "#e3ecf7"

    def __init__(
        self,
        *,
        application: str,
        job: str,
        arguments: Mapping[str, Any],
        compute: str = "local",
        obey_verdict: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.application = application
        self.job = job
        self.arguments = arguments
        self.compute = compute
        self.obey_verdict = obey_verdict
        self._group: ProcessGroup | None = None

    def execute(self, context: Any) -> dict[str, Any]:
        """Run the job to its end.

        :raises AirflowFailException: the input is wrong, or the verdict is FAIL or ERROR; no retry can help.
        :raises AirflowSkipException: the verdict is INSUFFICIENT_DATA.
        :raises JobFailed: anything else; Airflow's retries apply.
        """
        try:
            attempt = new_attempt(self.job, self.application, self.arguments, context)
            compute = load_compute(self.compute)
            environment = job_environment(attempt.spec, self.job, compute)
            replace(attempt.location / "spec.json", attempt.spec.model_dump_json(indent=1).encode())
        except JobError as error:
            raise _as_airflow(error) from error
        except OSError as error:
            raise JobFailed(f"the storage of {self.application} cannot be written: {error}") from error
        command = [self.job, "--spec", attempt.spec_uri, "--result", attempt.result_uri]
        self.log.info("nightshift %s", " ".join(command))
        self._group = ProcessGroup(
            [sys.executable, "-m", "nightshift", *command, "--end-with-parent"],
            environment=environment,
            cpus=compute.cpus,
            memory_gb=compute.memory_gb,
            on_line=self._log_line,
        )
        code = self._group.wait()
        if code != ExitCode.OK:
            raise _failure(self.job, code, self._group)
        return self._result(attempt, context)

    def on_kill(self) -> None:
        """Stop the whole process group."""
        if self._group:
            self._group.stop()

    def _result(self, attempt: Attempt, context: Any) -> dict[str, Any]:
        try:
            file = read_result(self.job, attempt.spec, attempt.result_uri)
        except JobError as error:
            raise JobFailed(str(error)) from error
        seconds = (file.ended - file.started).total_seconds()
        self.log.info("%s took %.1f s and at most %.2f GB", self.job, seconds, file.peak_memory_gb)
        if "verdict" not in file.result:
            return file.result
        verdict = Verdict(file.result["verdict"])
        reasons = list(filter(None, file.result.get("reasons") or [file.result.get("reason")]))
        self.log.info("%s: %s %s", self.job, verdict, "; ".join(reasons))
        if self.obey_verdict and verdict in {Verdict.INSUFFICIENT_DATA, Verdict.FAIL, Verdict.ERROR}:
            context["ti"].xcom_push("return_value", file.result)
            stop = AirflowSkipException if verdict is Verdict.INSUFFICIENT_DATA else AirflowFailException
            raise stop(f"{self.job}: {verdict}: {'; '.join(reasons)}")
        return file.result

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
        self.log.info("%s", _as_text(event))


def _as_text(event: dict[str, Any]) -> str:
    """A progress line for people: `train: 40 of 117 steps · loss 0.82 · 96 s · 3.90 GB`."""
    fixed = {"time", "event", "job", "seconds", "memory_gb", "step", "total", "unit"}
    parts = [f"{key.replace('_', ' ')} {_short(value)}" for key, value in event.items() if key not in fixed]
    if event.get("event") == "progress":
        total = f" of {event['total']:,}" if event.get("total") else ""
        parts.insert(0, f"{event['step']:,}{total} {event['unit']}")
    else:
        parts.insert(0, "running")
    parts += [f"{event.get('seconds')} s", f"{event.get('memory_gb')} GB"]
    return f"{event.get('job')}: {' · '.join(parts)}"


def _short(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _failure(job: str, code: int, group: ProcessGroup) -> AirflowException:
    if group.over_limit:
        return JobFailed(
            f"{job} was stopped: it used {group.peak_gb:.2f} GB, its compute profile allows {group.memory_gb:g} GB; "
            "give it more (memory_gb) or less to do"
        )
    if code < 0:
        return JobFailed(f"{job} was ended by {signal.Signals(-code).name}; its log is above")
    kind = {
        ExitCode.BAD_INPUT: "bad input (a retry cannot help)",
        ExitCode.BAD_ENVIRONMENT: "something it needs is missing or down",
        ExitCode.PREEMPTED: "it was asked to stop",
    }.get(ExitCode(code) if code in set(ExitCode) else ExitCode.FAILED, "it failed")
    error = AirflowFailException if code == ExitCode.BAD_INPUT else JobFailed
    return error(f"{job} ended with exit code {code}: {kind}; the reason is in the log above")


def _as_airflow(error: JobError) -> AirflowException:
    return (AirflowFailException if error.exit_code == ExitCode.BAD_INPUT else JobFailed)(str(error))


def job(name: str, app: Application, arguments: Mapping[str, Any], **kwargs: Any) -> JobOperator:
    """Return the task of one job of an application; its task id is the job's name."""
    return JobOperator(task_id=name, application=app.name, job=name, arguments=arguments, compute=app.compute, **kwargs)


def result_of(task: str, field: str) -> str:
    """Return a template for one field of an upstream job's result."""
    return f"{{{{ ti.xcom_pull(task_ids='{task}')['{field}'] }}}}"
