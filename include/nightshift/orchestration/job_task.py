"""What the tasks of all compute back ends share: a job with its arguments before, its result and verdict after."""

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
from nightshift.orchestration.telling import tell_of_result
from nightshift.settings.applications import load_compute
from nightshift.storage.files import replace
from nightshift.verdict import Verdict

WORK = "work"  # key of the XCom that says what a job took


class JobFailed(AirflowException):
    """The job ended without success; trying again may help."""


class EnvironmentDown(JobFailed):
    """Something that the job needs is missing or down, and is waited for."""


class JobTask(BaseOperator):
    """A task that has `nightshift <job>` run and returns its result.

    :param application: name of the application whose work it is.
    :param job: name of the job.
    :param arguments: fields of the job's spec beyond application and storage (templated); what is None when the task runs
        is left to the job's default.
    :param compute: name of the compute profile.
    :param obey_verdict: stop the flow by the result's verdict: INSUFFICIENT_DATA skips what follows, FAIL and ERROR
        fail the task for good. Otherwise the verdict is only passed on.
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
        """Return this attempt, with its spec in storage.

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
    def outlasting(self, context: Any) -> Iterator[None]:
        """Within this block an outage of what the job needs is waited for, which uses no retry.

        :raises TaskDeferred: the task leaves its worker and comes back to `again`.
        :raises EnvironmentDown: it was waited for as long as the compute profile allows; Airflow's retries apply.
        """
        try:
            yield
        except EnvironmentDown as error:
            self.wait_for_end(error, context)

    def wait_for_end(self, outage: EnvironmentDown, context: Any) -> None:
        """Leave the worker for a while, longer after each look.

        :raises EnvironmentDown: this was done for as long as the compute profile allows.
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
            "%s; starting the job again in %.0f s, which uses no retry; this try waits for at most %g hours (outage_hours "
            "of the compute profile %s)", outage, pause.total_seconds(), hours, self.compute,
        )  # fmt: skip
        self.defer(trigger=TimeDeltaTrigger(pause), method_name="again")

    def again(self, context: Any, event: Any = None) -> Any:
        """Come back after a wait."""
        return self.execute(context)

    def answer(self, spec: JobSpec, result_uri: str, context: Any) -> dict[str, Any]:
        """Return the result that the attempt left, and let its verdict decide how the flow goes on.

        :raises AirflowFailException: the verdict is FAIL or ERROR; no retry can help.
        :raises AirflowSkipException: the verdict is INSUFFICIENT_DATA.
        :raises JobFailed: there is no result, so the job did not succeed, whatever its exit code.
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
        tell_of_result(spec.application, self.job, spec, file.result, context, spec.storage)
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
    """Return what Airflow shall make of a job's error: bad input is not tried again, a bad environment is waited for."""
    if isinstance(error, BadEnvironment):
        return EnvironmentDown(str(error))
    return (AirflowFailException if error.exit_code == ExitCode.BAD_INPUT else JobFailed)(str(error))


def _unreachable(what: str, error: Exception) -> Exception:
    """Storage that is down, in words; whatever else went wrong stays what it is."""
    if is_outage(error):
        return EnvironmentDown(f"{what}: {error}")
    return JobFailed(f"{what}: {error}") if isinstance(error, OSError) else error
