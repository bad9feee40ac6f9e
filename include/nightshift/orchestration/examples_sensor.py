"""Waits for the examples of an interval. The DAG `ingest` alone makes them; whoever needs them goes by their manifest."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException

from nightshift.errors import JobError
from nightshift.orchestration.attempt import new_attempt
from nightshift.orchestration.job_task import JobFailed, as_airflow
from nightshift.settings.application import Application
from nightshift.storage.manifest import read_manifest
from nightshift.storage.partition import partition_of

LOOK_EVERY = timedelta(seconds=30)


class ExamplesSensor(BaseSensorOperator):
    """A task that returns URI and digest of an interval's examples (`examples`, `digest`) once they are published.

    It holds no worker between two looks. Where none come, it skips what follows: after the application's
    `clock.arrival_hours` and `wait_hours`, or as soon as the ingest run of the same logical date has ended without any.

    :param app: the application whose examples they are.
    :param interval: the interval as the job `ingest` takes it (templated).
    """

    template_fields = ("interval",)
    ui_color = "#e3ecf7"

    def __init__(self, *, app: Application, interval: Mapping[str, Any], **kwargs: Any) -> None:
        hours = app.clock.arrival_hours + app.clock.wait_hours
        super().__init__(mode="reschedule", poke_interval=LOOK_EVERY, timeout=3600 * hours, **kwargs)
        self.application = app.name
        self.interval = interval

    def execute(self, context: Any) -> Any:
        """Wait for the examples.

        :raises AirflowSkipException: none came.
        :raises AirflowFailException: the run's interval is none of the application's, or their manifest is damaged.
        :raises JobFailed: the storage cannot be read; trying again may help.
        """
        try:
            return super().execute(context)
        except AirflowSensorTimeout:
            raise AirflowSkipException(
                f"no examples came in {self.timeout / 3600:g} hours (clock.arrival_hours and wait_hours); {self._advice}"
            ) from None

    def poke(self, context: Any) -> PokeReturnValue | bool:
        """Return whether the examples are there, with where."""
        # Before the manifest is read: what ended since has published before.
        over = self._ingest_ended(context)
        try:
            spec: Any = new_attempt("ingest", self.application, {"interval": self.interval}, context).spec
            partition = partition_of(spec.storage, self.application, "examples", spec.interval.key)
            manifest = read_manifest(partition)
        except JobError as error:
            raise as_airflow(error) from error
        except OSError as error:
            raise JobFailed(f"the storage of {self.application} cannot be read: {error}") from error
        if manifest:
            return PokeReturnValue(True, {"examples": str(partition), "digest": manifest.digest})
        if over:
            raise AirflowSkipException(
                f"{self.application}_ingest ended without examples of {spec.interval.key}; {self._advice}"
            )
        self.log.info("there are no examples of %s yet; %s", spec.interval.key, self._advice)
        return False

    @property
    def _advice(self) -> str:
        return f"{self.application}_ingest makes them: look at its run for this interval, or start one"

    def _ingest_ended(self, context: Any) -> bool:
        """Whether the run of `ingest` by the same schedule has ended. A run that a person started has no such date."""
        date = context.get("logical_date")
        count = context["ti"].get_dr_count
        dag = f"{self.application}_ingest"
        return bool(date and count(dag_id=dag, logical_dates=[date], states=["success", "failed"]))
