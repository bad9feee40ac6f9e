"""Nights as the drift job publishes them, and what follows: what the tests of the ledger work on."""

import shutil
from datetime import UTC, datetime, timedelta

import pytest

from nightshift.ledger import orders
from nightshift.ledger.index_files import monitored_interval
from nightshift.ledger.records import MonitoredInterval, Outcome, Release
from nightshift.ledger.store import Ledger
from nightshift.settings.application import Application
from nightshift.settings.interval import Interval
from nightshift.storage.files import scratch
from nightshift.storage.manifest import digest_of
from nightshift.storage.partition import partition_of, publish

NOW = datetime(2026, 11, 24, 6, tzinfo=UTC)
CHAMPION = "c" * 64
APP = Application(
    name="app",
    sources=[{"uri": "/data/*.csv", "columns": {"prompt": "text"}}],
    retraining={"min_new_examples": 0, "cooldown_days": 0},
)

everywhere = pytest.mark.parametrize(
    "storage", ["file", "memory", pytest.param("s3", marks=pytest.mark.slow)], indirect=True
)
shared = pytest.mark.parametrize(
    "storage", ["file", pytest.param("s3", marks=pytest.mark.slow)], indirect=True
)  # what several processes can reach


def publish_interval(storage, day, verdict, *, model=CHAMPION, version=1, application="app"):
    """A night as the drift job publishes it."""
    start = datetime(2026, 11, day, tzinfo=UTC)
    interval = Interval(start=start, end=start + timedelta(days=1))
    inputs = {"day": day, "model": model, "version": version}
    partition = partition_of(storage, application, "drift", interval.key, digest_of(inputs)[:16])
    folder = scratch(partition)
    (folder / "verdict.json").write_text(f'"{verdict} {version}"')
    manifest = publish(
        partition,
        folder,
        kind="drift",
        application=application,
        interval=interval,
        inputs=inputs,
        facts={
            "monitor": "drift", "interval": interval.key, "verdict": verdict, "model_digest": model,
            "model_version": "3", "rows": 300, "failing": ["exact_match"] if verdict == "FAIL" else [],
            "worst": "exact_match", "worst_segment": None, "reasons": [], "interactions": "",
        },
    )  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    return monitored_interval(partition, manifest)


def crowned(storage, application):
    """Write down that the champion became it before these nights."""
    Ledger(storage, application).create(Release(number=1, model_digest=CHAMPION, released=NOW - timedelta(days=20)))


def planted(day, verdict, version=1):
    """The same night without a partition, for tests that only need what is decided now."""
    return MonitoredInterval(
        monitor="drift", interval=f"2026-11-{day:02d}", verdict=verdict, model_digest=CHAMPION, report=f"r/{day}",
        report_digest=digest_of([day, version]), created=NOW,
    )  # fmt: skip


def trip(storage, first=22, now=NOW):
    """Two failing nights; the decision after the second."""
    orders.evaluate(APP, Ledger(storage, "app"), publish_interval(storage, first, "FAIL"), now)
    return orders.evaluate(APP, Ledger(storage, "app"), publish_interval(storage, first + 1, "FAIL"), now)


def outcome(number, result="registered", now=NOW, **fields):
    return Outcome(number=number, result=result, explanation="as it went", ended=now, **fields)
