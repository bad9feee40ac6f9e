"""What one alert asks of storage, where every request takes its time: the same, whatever waits and whatever was told."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from told import application, drift

from nightshift.alerts.delivery import deliver
from nightshift.alerts.message import compose
from nightshift.alerts.outbox import Outbox, route_key
from nightshift.alerts.route_state import MOST_LACKING

APP = application({"to": "nobody"})


@pytest.fixture
def asked(monkeypatch):
    """How often storage was asked for what."""
    counted = Counter()
    for name in ("cat_file", "pipe_file", "ls", "rm_file"):
        monkeypatch.setattr(MemoryFileSystem, name, counting(counted, name, getattr(MemoryFileSystem, name)))
    return counted


def counting(counted, name, real):
    def call(*arguments, **options):
        counted[name] += 1
        return real(*arguments, **options)

    return call


def requests(outbox, asked, alert):
    """How many requests it takes to tell of one alert, while the route is left alone after its last failure."""
    asked.clear()
    assert outbox.accept(alert)
    deliver(APP, outbox, seconds=15, rest_after_trouble=timedelta(minutes=5))
    return asked.total()


def drained(outbox):
    while outbox.taken_up():
        deliver(APP, outbox, seconds=60, rest_after_trouble=timedelta(0))


def test_a_dead_route_and_a_long_history_make_no_alert_cost_more(asked):
    outbox = Outbox("memory://costs", "bank")
    outbox.accept(drift("2026-11-01"))
    drained(outbox)
    first = requests(outbox, asked, drift("2026-11-02", cause="a"))
    for number in range(MOST_LACKING + 20):
        outbox.accept(drift("2026-11-03", cause=str(number), condition=""))
        outbox.into_mailbox(compose([drift(cause=str(number))], "mailbox"), datetime.now(UTC))
    drained(outbox)
    assert outbox.route_state(route_key(APP.alerts.routes[0])).given_up.count == 22
    assert requests(outbox, asked, drift("2026-11-04", cause="b")) == first <= 30
    asked.clear()
    assert len(outbox.waiting(APP.alerts)) == 1
    assert asked.total() <= 4
