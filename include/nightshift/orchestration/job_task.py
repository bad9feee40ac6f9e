"""The base of the job tasks of all compute back ends: writes the job's spec, reads its result and obeys its verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from nightshift.errors import BadEnvironment, ExitCode, JobError, is_outage
from nightshift.jobs.contract import JobSpec, read_result
from nightshift.orchestration.attempt import Attempt, new_attempt
from nightshift.orchestration.links import LINKS, links_of
from nightshift.orchestration.outage import next_look
from nightshift.orchestration.telling import notify_of_result
from nightshift.settings.applications import load_compute
from nightshift.storage.files import replace
from nightshift.verdict import Verdict

WORK = "work"  # key of the XCom with the duration and memory of a job


class JobFailed(AirflowException):
    """The job ended without success; trying again may help."""


class EnvironmentDown(JobFailed):
    """Something that the job needs is missing or down; the task waits for it."""


class JobTask(BaseOperator):
    """A task that runs `nightshift <job>` and returns its result.

    :param application: name of the application.
    :param job: name of the job.
    :param arguments: fields of the job's spec beyond application and storage (templated); the job's default replaces None.
    :param compute: name of the compute profile.
    :param obey_verdict: INSUFFICIENT_DATA skips downstream tasks, FAIL and ERROR fail the task without retries. False: the
        verdict is only returned.
    """

    template_fields = ("arguments",)
    template_fields_renderers = {"arguments": "json"}  # noqa: RUF012  (Airflow's own form)
    operator_extra_links = LINKS
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
        self.links: dict[str, str] = {}  # of the result, by the title of their button

    def prepared(self, context: Any) -> Attempt:
        """Write the spec of this attempt to storage, and return the attempt.

        :raises AirflowFailException: the arguments are wrong; no retry can help.
        :raises EnvironmentDown: the storage cannot be written.
        """
        try:
            attempt = new_attempt(self.job, self.application, self.arguments, context)
            replace(attempt.location / "spec.json", attempt.spec.model_dump_json(indent=1).encode())
        except JobError as error:
            raise as_airflow(error) from error
        except Exception as error:
            raise _unreachable(f"the storage of {self.application} cannot be written", error) from error
        return attempt

    @contextmanager
    def waiting_out_outages(self, context: Any) -> Iterator[None]:
        """Wait out an outage that this block meets, without using a retry.

        :raises TaskDeferred: the task leaves its worker and resumes in `again`.
        :raises EnvironmentDown: the outage lasts longer than the compute profile allows; Airflow's retries apply.
        """
        try:
            yield
        except EnvironmentDown as error:
            self.wait_for_end(error, context)

    def wait_for_end(self, outage: EnvironmentDown, context: Any) -> None:
        """Leave the worker for a pause that grows with each attempt.

        :raises EnvironmentDown: the task has waited for as long as the compute profile allows.
        """
        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

        try:
            hours = load_compute(self.compute).outage_hours
        except JobError as error:
            raise as_airflow(error) from error
        pause = next_look(context, timedelta(hours=hours), datetime.now(UTC))
        if pause is None:
            raise outage
        self.log.warning(
            "%s; starting the job again in %.0f s without using a retry; this try waits for at most %g hours (outage_hours "
            "of the compute profile %s)", outage, pause.total_seconds(), hours, self.compute,
        )  # fmt: skip
        self.defer(trigger=TimeDeltaTrigger(pause), method_name="again")

    def again(self, context: Any, event: Any = None) -> Any:
        """Start again after a pause."""
        return self.execute(context)

    def answer(self, spec: JobSpec, result_uri: str, context: Any) -> dict[str, Any]:
        """Return the result of the attempt, and stop the run if its verdict says so.

        :raises AirflowFailException: the verdict is FAIL or ERROR; no retry can help.
        :raises AirflowSkipException: the verdict is INSUFFICIENT_DATA.
        :raises JobFailed: there is no result: the job failed, whatever its exit code.
        :raises EnvironmentDown: storage cannot be reached.
        """
        try:
            file = read_result(self.job, spec, result_uri)
        except JobError as error:
            raise JobFailed(str(error)) from error
        except Exception as error:
            raise _unreachable(f"the result at {result_uri} cannot be read", error) from error
        ti = context["ti"]
        self.links = links_of(self.application, ti.dag_id, ti.run_id, file.result)
        seconds = (file.ended - file.started).total_seconds()
        self.log.info("%s took %.1f s and at most %.2f GB", self.job, seconds, file.peak_memory_gb)
        speed = {name: file.result[name] for name in ("tokens_per_second",) if file.result.get(name)}
        work = {"job": self.job, "seconds": round(seconds, 1), "peak_memory_gb": file.peak_memory_gb, **speed}
        ti.xcom_push(WORK, work)
        notify_of_result(spec.application, self.job, spec, file.result, context, spec.storage)
        if "verdict" not in file.result:
            return file.result
        verdict = Verdict(file.result["verdict"])
        reasons = list(filter(None, file.result.get("reasons") or [file.result.get("reason")]))
        self.log.info("%s: %s %s", self.job, verdict, "; ".join(reasons))
        if self.obey_verdict and verdict in {Verdict.INSUFFICIENT_DATA, Verdict.FAIL, Verdict.ERROR}:
            ti.xcom_push("return_value", file.result)
            stop = AirflowSkipException if verdict is Verdict.INSUFFICIENT_DATA else AirflowFailException
            raise stop(f"{self.job}: {verdict}: {'; '.join(reasons)}")
        return file.result


def as_airflow(error: JobError) -> AirflowException:
    """Return a job's error as Airflow's: bad input is not retried, a bad environment is waited for."""
    if isinstance(error, BadEnvironment):
        return EnvironmentDown(str(error))
    return (AirflowFailException if error.exit_code == ExitCode.BAD_INPUT else JobFailed)(str(error))


def _unreachable(what: str, error: Exception) -> Exception:
    """An error of storage as Airflow's; any other error unchanged."""
    if is_outage(error):
        return EnvironmentDown(f"{what}: {error}")
    return JobFailed(f"{what}: {error}") if isinstance(error, OSError) else error
