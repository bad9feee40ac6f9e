"""What a scrape asks of storage for one application: the same few small files, whatever its history."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from stored_application import StoredApplication, days

from nightshift.alerts.outbox import Outbox
from nightshift.ledger.spending import keep_summary
from nightshift.metrics.application_facts import read_facts
from nightshift.settings.application import Application

APP = Application(
    name="app", description="A.", sources=[{"uri": "/data/*.csv", "columns": {"prompt": "text"}}],
    alerts={"routes": [{"to": "ops"}]},
)  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    """How often storage was asked for what; a call within a call is none of its own."""
    counted, inside = Counter(), []

    def counting(name, real):
        def call(*arguments, **options):
            counted[name] += not inside
            inside.append(name)
            try:
                return real(*arguments, **options)
            finally:
                inside.pop()

        return call

    for name in ("cat_file", "ls", "info", "exists", "open", "glob", "find"):
        monkeypatch.setattr(MemoryFileSystem, name, counting(name, getattr(MemoryFileSystem, name)))
    return counted


def test_a_scrape_asks_storage_as_often_after_a_month_of_nights_as_after_three(asked):
    took = {}
    for nights in (3, 30):
        stored = StoredApplication(f"memory://scraped-{nights}", "app")
        stored.champion()
        for day in days(nights):
            stored.interactions(day)
            stored.drift(day)
            stored.bias(day)
        stored.ledger.keep_index()
        keep_summary(stored.ledger, datetime.now(UTC))
        Outbox(stored.storage, "app").looked(datetime.now(UTC))
        read_facts(APP, stored.storage, datetime.now(UTC))  # what never changes is read once in a process
        asked.clear()
        seen = read_facts(APP, stored.storage, datetime.now(UTC))
        took[nights] = asked.total()
        assert len(seen.judged["drift"]) == nights
    assert took[30] == took[3] <= 14
