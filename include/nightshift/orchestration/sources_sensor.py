"""Waits for the data of an interval: a file of each source, or a row of its query. The job `ingest` then checks it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import BaseSensorOperator
from upath import UPath

from nightshift.data.source_files import NoData, files_at, uri_of
from nightshift.errors import BadEnvironment, JobError, is_outage
from nightshift.orchestration.attempt import new_attempt, source_environment
from nightshift.orchestration.job import workers_of
from nightshift.settings.application import Application
from nightshift.settings.applications import load_compute
from nightshift.settings.compute import LocalCompute
from nightshift.settings.intake import Source
from nightshift.settings.interval import Interval
from nightshift.storage.files import is_local

log = logging.getLogger(__name__)

LOOK_EVERY = timedelta(minutes=5)


class SourcesSensor(BaseSensorOperator):
    """A task that ends when every source has data for an interval, or when the time to wait is over.

    A scheduled run and a backfill wait until `clock.arrival_hours` after the interval's end, and hold no worker between two
    looks; a run that a person started does not wait. The task never fails for missing data: `ingest` reports it.

    :param app: the application whose sources they are.
    :param part: `examples` or `traffic`.
    :param interval: the interval as the job `ingest` takes it (templated).
    """

    template_fields = ("interval",)
    ui_color = "#e3ecf7"

    def __init__(self, *, app: Application, part: str, interval: Mapping[str, Any], **kwargs: Any) -> None:
        # On the workers of ingest: others may not see the files.
        kwargs = {**workers_of(app.profile_of("ingest")), **kwargs}
        # `poke` ends by the interval's end; this timeout only ends a task that cannot poke any more.
        longest = timedelta(hours=app.clock.arrival_hours + 1)
        super().__init__(mode="reschedule", poke_interval=LOOK_EVERY, timeout=longest, **kwargs)
        self.application = app.name
        self.part = part
        self.interval = interval

    def poke(self, context: Any) -> bool:
        """Return whether `ingest` may begin."""
        arguments = {"interval": self.interval, "part": self.part}
        try:
            spec: Any = new_attempt("ingest", self.application, arguments, context).spec
        except JobError as error:
            self.log.warning("not waiting, ingest will fail with: %s", error)
            return True
        lacking = list(_lacking(spec.application, self.part, spec.interval))
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
    """Sources without data yet, a sentence for each. Queries run only once all files have arrived."""
    sources = app.traffic.sources if part == "traffic" else app.sources
    files = [source for source in sources if source.query is None]
    missing = [said for source in files if (said := _said(source, lambda one: _look_for_file(one, app, interval)))]
    yield from missing
    if not missing:
        queries = [source for source in sources if source.query is not None]
        yield from filter(None, (_said(source, lambda one: _look_for_row(one, interval)) for source in queries))


def _said(source: Source, look: Callable[[Source], None]) -> str | None:
    """What is missing; None if the source has data, or this worker cannot check it."""
    try:
        look(source)
    except NoData as nothing:
        return str(nothing)
    except Exception as error:
        if _is_down(error):
            return str(error)
        log.warning("not waiting for source %r, which this worker cannot check: %s", source.name, error)
    return None


def _is_down(error: Exception) -> bool:
    """Whether a source is down for now. A missing key, driver or connection of this worker is no outage."""
    if isinstance(error, JobError):
        cause = error.__cause__
        return isinstance(error, BadEnvironment) and cause is not None and not isinstance(cause, PermissionError)
    return is_outage(error)


def _look_for_file(source: Source, app: Application, interval: Interval) -> None:
    uri = uri_of(source, interval, app.zone)
    if is_local(UPath(uri)) and not isinstance(load_compute(app.profile_of("ingest")), LocalCompute):
        return  # a path of the pods
    files_at(source, uri)


def _look_for_row(source: Source, interval: Interval) -> None:
    from nightshift.data.database import database_url, has_rows

    url = database_url(source.connection or "", source_environment([source]))
    if not has_rows(url, source.query or "", interval, f"query of source {source.name!r}"):
        raise NoData(f"source {source.name!r}: its query finds no row")
