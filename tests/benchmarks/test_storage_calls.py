"""How often a decision, a claim, a row of the overview and a scrape ask storage, with 10, 365 and 5,000 intervals of history."""

import json
import os
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from nightshift.dashboard.application_files import ApplicationFile
from nightshift.dashboard.overview import row
from nightshift.data.acceptance import record_acceptance
from nightshift.ledger import orders
from nightshift.ledger.index_files import monitored_interval
from nightshift.ledger.records import Outcome, Release
from nightshift.ledger.spending import keep_summary
from nightshift.ledger.store import Ledger
from nightshift.metrics.application_facts import read_facts
from nightshift.settings.application import Application
from nightshift.settings.interval import Interval
from nightshift.storage import files
from nightshift.storage.manifest import Parent, digest_of
from nightshift.storage.partition import partition_of, publish
from nightshift.verdict import Verdict

REPORT = Path(os.environ.get("NIGHTSHIFT_BENCHMARKS") or Path(__file__).parents[2] / "build")
MOST = 30  # calls, whatever the history
START = datetime(2026, 1, 1, tzinfo=UTC)
APP = Application(
    name="app",
    schedule="@hourly",
    sources=[{"uri": "/data/*.csv", "columns": {"prompt": "text"}}],
    retraining={"min_new_examples": 0, "cooldown_days": 0, "max_a_week": 5},
)
CALLS = ("cat_file", "pipe_file", "ls", "find", "info", "exists", "rm_file")


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("intervals", [10, 365, 5_000])
def test_a_decision_and_a_row_ask_storage_as_often_with_years_of_history_as_with_ten_nights(intervals, monkeypatch):
    storage = f"memory://calls-{intervals}"
    with monkeypatch.context() as patch:
        # Its own looks through every file that there is.
        patch.setattr(MemoryFileSystem, "exists", lambda self, path: self._strip_protocol(path) in self.store)
        patch.setattr(files, "scratch", lambda _storage: Path(tempfile.mkdtemp()))
        night = write_history(storage, intervals)
    with counted(monkeypatch) as decided:
        began = time.process_time()
        ledger = Ledger(storage, "app")
        decision = orders.evaluate(APP, ledger, night, datetime.now(UTC))
        orders.open_order(ledger)
        ledger.keep_index()
        seconds = time.process_time() - began
    assert decision.code == "quiet"
    with counted(monkeypatch) as claimed:
        orders.claim(Ledger(storage, "app"), "app_finetune", "run", datetime.now(UTC))
    with counted(monkeypatch) as shown:
        assert row(ApplicationFile("app", APP), storage, None, []).champion.version == "1"
    read_facts(APP, storage, datetime.now(UTC))  # what never changes is read once in a process
    with counted(monkeypatch) as scraped:
        read_facts(APP, storage, datetime.now(UTC))
    found = {"decision": decided.total(), "claim": claimed.total(), "row": shown.total(), "scrape": scraped.total()}
    REPORT.mkdir(exist_ok=True)
    figures = {"intervals": intervals, "calls": found, "cpu_seconds_of_a_decision": round(seconds, 3)}
    (REPORT / f"storage_calls_{intervals}.json").write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures), dict(shown))
    assert max(found.values()) <= MOST


@contextmanager
def counted(monkeypatch):
    """Counts what an object store would be asked; a call within a call is none of its own."""
    found, inside = Counter(), []

    def counting(name, real):
        def call(self, *arguments, **named):
            if not inside:
                found[name] += 1
            inside.append(name)
            try:
                return real(self, *arguments, **named)
            finally:
                inside.pop()

        return call

    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(MemoryFileSystem, name, counting(name, getattr(MemoryFileSystem, name)))
        yield found


def write_history(storage, intervals):
    """Hours of examples, interactions and quiet verdicts, five retrainings, a champion; and the index as a night ago.

    :return: the newest hour, which nobody decided about yet.
    """
    ledger = Ledger(storage, "app")
    days = [examples(storage, number) for number in range(intervals)]
    snapshot = published(storage, "snapshot", "snapshots/s", parents=days[: intervals // 2])
    parent = Parent(uri=f"{storage}/app/snapshots/s", digest=snapshot.digest)
    model = published(storage, "model", "models/m", parents=[parent])
    release = Release(
        number=1, model_digest=model.digest, model=f"{storage}/app/models/m", version="1", released=datetime.now(UTC)
    )
    ledger.create(release)
    for number in range(1, 6):
        decision = orders.force(ledger, f"wish-{number}", reason="because", by="ana", now=datetime.now(UTC))
        orders.claim(ledger, "app_finetune", f"run-{number}", datetime.now(UTC))
        orders.close(
            ledger, Outcome(number=decision.order, result="failed", explanation="it did", ended=datetime.now(UTC))
        )
    for number in range(intervals):
        if number == intervals - 2:
            ledger.keep_index()
        published(storage, "interactions", f"interactions/{interval(number).key}", number)
        newest = verdict(storage, number, model.digest)
    keep_summary(ledger, datetime.now(UTC))
    return newest


def interval(number):
    start = START + timedelta(hours=number)
    return Interval(start=start, end=start + timedelta(hours=1))


def published(storage, kind, address, number=None, **fields):
    partition = partition_of(storage, "app", *address.split("/"))
    return publish(
        partition, files.scratch(partition), kind=kind, application="app", inputs={"address": address},
        interval=None if number is None else interval(number), **fields,
    )  # fmt: skip


def examples(storage, number):
    key = interval(number).key
    manifest = published(storage, "examples", f"examples/{key}", number, facts={"splits": {"train": 10}})
    record_acceptance(partition_of(storage, "app", "examples", key), manifest.digest, Verdict.PASS, [])
    return Parent(uri=f"{storage}/app/examples/{key}", digest=manifest.digest)


def verdict(storage, number, model):
    key = interval(number).key
    address = f"drift/{key}/{digest_of(number)[:16]}"
    facts = {
        "monitor": "drift", "interval": key, "verdict": "PASS", "model_digest": model, "model_version": "1", "rows": 300,
        "failing": [], "reasons": ["nothing moved"], "interactions": "",
    }  # fmt: skip
    manifest = published(storage, "drift", address, number, facts=facts)
    return monitored_interval(partition_of(storage, "app", *address.split("/")), manifest)
