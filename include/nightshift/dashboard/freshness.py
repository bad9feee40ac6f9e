"""How old the newest partition of each kind is, and whether that is too old for the application's schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nightshift.dashboard.intervals import JudgedInterval, named, start_of
from nightshift.dashboard.stored import Store
from nightshift.ledger.index import Index
from nightshift.ledger.records import Monitor
from nightshift.monitoring.due_intervals import expected_interval
from nightshift.settings.application import Application


@dataclass(frozen=True)
class Fresh:
    """The newest partition of a kind by its display name; `stale` says why it is too old, "" if it is not."""

    kind: str
    name: str
    written: datetime | None
    stale: str


def freshness(  # noqa: PLR0917
    store: Store,
    index: Index,
    app: Application,
    judged: Mapping[Monitor, Sequence[JudgedInterval]],
    champion: str,
    now: datetime,
) -> list[Fresh]:
    """Return the newest partition of examples, interactions, drift, bias and references.

    Examples and interactions are stale if the last interval of the schedule ended hours ago and has none; drift and bias if a
    newer interval has had interactions for as long; references if the champion has none.

    :param champion: digest of its model, "" without a champion.
    :raises BadInput: a manifest cannot be read.
    """
    expected = expected_interval(now, app)
    found = []
    published = {
        "examples": {key: day.created for key, day in index.examples.items()},
        "interactions": index.interactions,
    }
    for kind, partitions in published.items():
        newest = _newest(partitions, now)
        late = bool(expected and (not newest or start_of(newest) < expected.start))
        stale = f"{named(expected.key, app.zone)} is missing" if late and expected else ""
        found.append(Fresh(kind, named(newest, app.zone), partitions.get(newest), stale))
    answered = _newest(index.interactions, now - timedelta(hours=app.clock.grace_hours))
    for monitor, intervals in judged.items():
        newest = intervals[-1].interval if intervals else ""
        stale = f"{named(answered, app.zone)} has interactions and no verdict" if answered > newest else ""
        found.append(Fresh(monitor, named(newest, app.zone), intervals[-1].created if intervals else None, stale))
    address = champion[:16]
    reference = store.manifest("references", address) if champion else None
    stale = (
        "" if reference or not champion else "the champion has none, so drift cannot be measured; run finetune again"
    )
    found.append(Fresh("references", address if reference else "", reference.created if reference else None, stale))
    return found


def _newest(partitions: Mapping[str, datetime], by: datetime) -> str:
    """The newest interval published `by` a time; "" if there is none."""
    return max((key for key, created in partitions.items() if created <= by), default="")
