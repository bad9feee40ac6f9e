"""Waits for the data of an interval: a file of each source, or a row of its query. The job `ingest` has the last word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import BaseSensorOperator
from upath import UPath

from nightshift.data.source_files import NoData, files_at, uri_of
from nightshift.orchestration.attempt import new_attempt, source_environment
from nightshift.orchestration.job import workers_of
from nightshift.settings.application import Application, Interval
from nightshift.settings.applications import load_compute
from nightshift.settings.compute import LocalCompute
from nightshift.settings.intake import Source
from nightshift.storage.files import is_local

LOOK_EVERY = timedelta(minutes=5)


class SourcesSensor(BaseSensorOperator):
    """A task that ends when every source has something for an interval, or when it is not waited for any longer.

    A scheduled run and a backfill wait until `clock.arrival_hours` after the interval's end, and hold no worker between two
    looks; a run that a person started does not wait. The task only ever delays: whatever is wrong or missing then, `ingest`
    finds the same and tells people.

    :param app: the application whose sources they are.
    :param part: `examples` or `traffic`.
    :param interval: the interval as the job `ingest` takes it (templated).
    """

    template_fields = ("interval",)
    ui_color = "#e3ecf7"

    def __init__(self, *, app: Application, part: str, interval: Mapping[str, str], **kwargs: Any) -> None:
        # From the workers that read the sources: others may not see their files.
        kwargs = {**workers_of(app.profile_of("ingest")), **kwargs}
        wait = timedelta(hours=app.clock.arrival_hours)
        super().__init__(mode="reschedule", poke_interval=LOOK_EVERY, timeout=wait, **kwargs)
        self.application = app.name
        self.part = part
        self.interval = interval

    def poke(self, context: Any) -> bool:
        """Return whether `ingest` may begin."""
        try:
            arguments = {"interval": self.interval, "part": self.part}
            spec: Any = new_attempt("ingest", self.application, arguments, context).spec
            lacking = list(_lacking(spec.application, self.part, spec.interval))
        except Exception as error:
            self.log.warning("whether the data is there cannot be seen from here; ingest looks for it now: %s", error)
            return True
        if not lacking:
            return True
        hours = spec.application.clock.arrival_hours
        until = spec.interval.end + timedelta(hours=hours)
        if context["dag_run"].run_type == "manual" or until <= datetime.now(UTC):
            self.log.warning("no data arrived: %s", "; ".join(lacking))
            return True
        self.log.info(
            "waiting until %s UTC, %g hours after the end of %s (clock.arrival_hours): %s",
            f"{until:%Y-%m-%d %H:%M}", hours, spec.interval.key, "; ".join(lacking),
        )  # fmt: skip
        return False


def _lacking(app: Application, part: str, interval: Interval) -> Iterator[str]:
    """What there is not yet, a sentence for each source."""
    sources = app.traffic.sources if part == "traffic" else app.sources
    in_pods = not isinstance(load_compute(app.profile_of("ingest")), LocalCompute)
    for source in sources:
        if source.query is not None:
            if not _has_rows(source, interval):
                yield f"source {source.name!r}: its query finds no row"
            continue
        uri = uri_of(source, interval, app.zone)
        if in_pods and is_local(UPath(uri)):
            continue  # a path of the pods
        try:
            files_at(source, uri)
        except NoData as nothing:
            yield str(nothing)


def _has_rows(source: Source, interval: Interval) -> bool:
    from nightshift.data.database import database_url, has_rows

    url = database_url(source.connection or "", source_environment([source]))
    return has_rows(url, source.query or "", interval, f"query of source {source.name!r}")
