"""Reads the input of an application's metrics: its index and a dozen small files, independent of its history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from nightshift.alerts.alert import Alert
from nightshift.alerts.outbox import Outbox
from nightshift.dashboard import models
from nightshift.dashboard.freshness import Fresh, freshness
from nightshift.dashboard.intervals import JudgedInterval, gap_of, last_judged, verdict_file
from nightshift.dashboard.ledger import Retraining, retrainings
from nightshift.dashboard.stored import Store
from nightshift.errors import BadInput
from nightshift.ledger.index import LOOK_BACK, Index
from nightshift.ledger.records import Monitor, Release, Snooze
from nightshift.ledger.spending import Summary, kept_summary
from nightshift.ledger.store import Ledger
from nightshift.settings.application import Application
from nightshift.storage.manifest import Manifest
from nightshift.verdict import Verdict

MOST_GAPS = 60  # of an interval: the data may have many groups


class Moved(NamedTuple):
    """A metric of an interval, with its floors."""

    metric: str
    excess: float
    warn: float
    fail: float


class Gaps(NamedTuple):
    """The largest gap of each dimension and metric of an interval, and the limit."""

    largest: dict[tuple[str, str], float]
    limit: float | None


NO_GAPS = Gaps({}, None)


@dataclass(frozen=True)
class ApplicationFacts:
    """The input of an application's metrics.

    :param judged: verdicts of each monitor on its newest intervals, in order.
    :param examples: the newest manifest, like `interactions`; None if there is none.
    :param undelivered: number of routes with pending messages.
    :param looked: when housekeeping last checked the application.
    :param spending: the last summary of housekeeping; None: none yet.
    """

    app: Application
    index: Index
    judged: Mapping[Monitor, Sequence[JudgedInterval]]
    releases: Sequence[Release] = ()
    retrainings: Sequence[Retraining] = ()
    snooze: Snooze | None = None
    moved: Sequence[Moved] = ()
    gaps: Gaps = NO_GAPS
    examples: Manifest | None = None
    interactions: Manifest | None = None
    champion: models.Model | None = None
    fresh: Sequence[Fresh] = ()
    alerts: Sequence[Alert] = ()
    undelivered: int = 0
    looked: datetime | None = None
    spending: Summary | None = None


def read_facts(app: Application, storage: str, now: datetime) -> ApplicationFacts:
    """Read the facts of an application.

    :raises BadInput: a record of the ledger cannot be read.
    :raises OSError: storage cannot be read.
    """
    store, records, outbox = Store(storage, app.name, app.zone), Ledger(storage, app.name), Outbox(storage, app.name)
    index = records.index()
    by_monitor, _ = last_judged(index, LOOK_BACK, app.zone)
    newest = {monitor: judged[-1] for monitor, judged in by_monitor.items() if judged}
    champion = models.champion(store, records)
    return ApplicationFacts(
        app=app,
        index=index,
        judged=by_monitor,
        releases=records.releases(),
        retrainings=retrainings(records, len(index.orders)),
        snooze=records.snooze(),
        moved=_moved(store, newest["drift"]) if "drift" in newest else (),
        gaps=_gaps(store, newest["bias"]) if "bias" in newest else NO_GAPS,
        examples=_newest(store, "examples", index.examples),
        interactions=_newest(store, "interactions", index.interactions),
        champion=champion,
        fresh=freshness(store, index, app, by_monitor, champion.digest if champion else "", now),
        alerts=outbox.open(),
        undelivered=len(outbox.waiting(app.alerts)) if app.alerts.routes else 0,
        looked=outbox.last_look(),
        spending=kept_summary(records.home),
    )


def _newest(store: Store, kind: str, published: Mapping[str, object]) -> Manifest | None:
    """The newest manifest; None if it is unreadable, which the index counts."""
    try:
        return store.manifest(kind, max(published)) if published else None
    except BadInput:
        return None


@lru_cache(maxsize=1_000)
def _moved(store: Store, judged: JudgedInterval) -> tuple[Moved, ...]:
    try:
        return tuple(
            Moved(str(one["metric"]), float(one["excess"]), float(one["warn"]), float(one["fail"]))
            for one in verdict_file(store, judged).get("metrics", [])
            if one["verdict"] != Verdict.INSUFFICIENT_DATA
        )
    except (BadInput, LookupError, TypeError, ValueError):
        return ()


@lru_cache(maxsize=1_000)
def _gaps(store: Store, judged: JudgedInterval) -> Gaps:
    largest: dict[tuple[str, str], float] = {}
    try:
        content = verdict_file(store, judged)
        for one in content.get("findings", []):
            if one.get("value") is not None:
                key = str(one["dimension"]), str(one["metric"])
                largest[key] = max(gap_of(one), largest.get(key, 0.0))
        limit = content.get("policy", {}).get("max_gap")
    except (BadInput, LookupError, TypeError, ValueError):
        return NO_GAPS
    kept = sorted(largest, key=lambda key: -largest[key])[:MOST_GAPS]
    return Gaps({key: largest[key] for key in kept}, None if limit is None else float(limit))
