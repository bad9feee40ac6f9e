"""Gathers all metrics for a scrape. An unreadable application, or Airflow's database being down, does not affect the others."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from fastapi import HTTPException
from prometheus_client.core import Metric
from upath import UPath

from nightshift.dashboard.airflow_state import storage_uri, waiting_for_people
from nightshift.dashboard.application_files import ApplicationFile, known_applications
from nightshift.dashboard.own_threads import PATIENCE_SECONDS
from nightshift.errors import JobError
from nightshift.metrics.airflow_tables import samples_of_airflow
from nightshift.metrics.application_facts import read_facts
from nightshift.metrics.families import Sample, exposed
from nightshift.metrics.of_application import samples_of
from nightshift.storage.files import read_each

FRESH_SECONDS = 15.0  # several Prometheus servers share one read of storage

Found = TypeVar("Found")

log = logging.getLogger(__name__)


def gather(now: datetime) -> list[Sample]:
    """Return the samples of every application and of Airflow."""
    began, known = time.monotonic(), known_applications()
    names = [one.name for one in known]
    waiting, told = (
        _or_nothing(lambda: waiting_for_people(names)),
        _or_nothing(lambda: list(samples_of_airflow(names, now))),
    )
    samples: list[Sample] = []
    storage = _or_nothing(storage_uri)

    def of(one: ApplicationFile) -> list[Sample]:
        return _of(one, storage, [asked.subject for asked in (waiting or {}).get(one.name, [])], now)

    for found in read_each(UPath(storage), of, known) if storage else map(of, known):
        samples += found
    samples += told or []
    samples.append(Sample("nightshift_airflow_readable", (), float(told is not None)))
    samples.append(Sample("nightshift_scrape_duration_seconds", (), time.monotonic() - began))
    return samples


class Scrapes:
    """The metrics of a scrape, gathered at most every few seconds; concurrent scrapes wait for the same result."""

    def __init__(self) -> None:
        self._gathering = threading.Lock()
        self._samples: list[Sample] = []
        self._at = float("-inf")

    def collect(self) -> list[Metric]:
        """Return the metrics for a registry of prometheus_client.

        :raises HTTPException: 503, an earlier scrape still waits for storage.
        """
        if not self._gathering.acquire(timeout=PATIENCE_SECONDS):
            raise HTTPException(503, "An earlier scrape still waits for storage or for Airflow's database.")
        try:
            if time.monotonic() - self._at >= FRESH_SECONDS:
                self._samples = gather(datetime.now(UTC))
                self._at = time.monotonic()
            return exposed(self._samples)
        finally:
            self._gathering.release()


def _of(known: ApplicationFile, storage: str | None, waits: list[str], now: datetime) -> list[Sample]:
    try:
        if known.settings and storage:
            return list(samples_of(read_facts(known.settings, storage, now), waits, now))
    except Exception as error:  # object stores have errors of their own
        if not isinstance(error, JobError):
            log.warning("the metrics of %s cannot be gathered", known.name, exc_info=True)
    return [Sample("nightshift_application_readable", (known.name,), 0.0)]


def _or_nothing(read: Callable[[], Found]) -> Found | None:
    try:
        return read()
    except Exception:  # databases have errors of their own
        log.warning("Airflow's database cannot be read for metrics", exc_info=True)
        return None
