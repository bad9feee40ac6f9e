"""Waits until the DAG `ingest` has published the examples of an interval: until their manifest exists."""

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

    It holds no worker between two looks. It skips downstream tasks after the application's `clock.arrival_hours` and
    `wait_hours`, or as soon as the ingest run of the same logical date has ended without examples.

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

        :raises AirflowSkipException: no examples were published in time.
        :raises AirflowFailException: the run's interval does not fit the application's schedule, or the manifest is damaged.
        :raises JobFailed: the storage cannot be read; trying again may help.
        """
        try:
            return super().execute(context)
        except AirflowSensorTimeout:
            raise AirflowSkipException(
                f"no examples in {self.timeout / 3600:g} hours (clock.arrival_hours plus wait_hours); {self._advice}"
            ) from None

    def poke(self, context: Any) -> PokeReturnValue | bool:
        """Return the address of the examples once they are published."""
        # Ask before reading the manifest: a run that ended by now has published before.
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
        """Whether the scheduled run of `ingest` for the same logical date has ended. Manual runs have no such date."""
        date = context.get("logical_date")
        count = context["ti"].get_dr_count
        dag = f"{self.application}_ingest"
        return bool(date and count(dag_id=dag, logical_dates=[date], states=["success", "failed"]))
