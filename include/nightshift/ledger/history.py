"""What the retraining policy looks at, read from manifests and the ledger, never from a run or an event."""

from __future__ import annotations

import logging
from datetime import datetime

from upath import UPath

from nightshift.data.snapshot import published_examples
from nightshift.errors import BadInput
from nightshift.ledger.policy import History
from nightshift.ledger.records import Monitor, Night
from nightshift.ledger.store import Ledger
from nightshift.storage.files import names_in
from nightshift.storage.partition import Manifest, partition_of, read_manifest, require_manifest

log = logging.getLogger(__name__)

MONITORS: tuple[Monitor, ...] = ("drift", "bias")
LOOK_BACK = 90  # newest intervals of a monitor; older nights say nothing about today


def night_of(partition: UPath, manifest: Manifest) -> Night:
    """Return a published partition of drift or bias as the policy sees it."""
    return Night.model_validate(
        {
            **manifest.facts,
            "report": str(partition),
            "report_digest": manifest.digest,
            "created": manifest.created,
        }
    )


def nights(storage: str, application: str) -> list[Night]:
    """Return what the monitors said about the newest 90 intervals, in order of time.

    Of several partitions for one monitor, interval and model the newest counts.
    """
    found = []
    for monitor in MONITORS:
        folder = partition_of(storage, application, monitor)
        for interval in names_in(folder)[-LOOK_BACK:]:
            for address in names_in(folder / interval):
                partition = folder / interval / address
                try:
                    manifest = read_manifest(partition)
                except BadInput as error:
                    log.warning("a report that cannot be read does not count: %s", error)
                    continue
                if manifest:
                    found.append(night_of(partition, manifest))
    return _newest(found)


def published(report: str) -> Night:
    """Return what a report says, by its URI.

    :raises BadInput: it is gone, or cannot be read.
    """
    partition = UPath(report)
    return night_of(partition, require_manifest(partition))


def newest_about_champion(storage: str, application: str, monitor: Monitor) -> list[Night]:
    """Return what a monitor said of the newest interval that the champion was judged by; nothing where there is none."""
    releases = Ledger(storage, application).releases()
    champion = releases[-1].model_digest if releases else ""
    about = [one for one in nights(storage, application) if one.monitor == monitor and one.model_digest == champion]
    return about[-1:]


def history(application: str, storage: str, night: Night, now: datetime) -> History:
    """Return what is known after `night`, which was judged in this moment and may not be among the listed ones yet.

    The champion is the model of the newest release; where none was ever written down, that of the night.
    """
    ledger = Ledger(storage, application)
    releases = ledger.releases()
    champion = releases[-1].model_digest if releases else night.model_digest
    orders = ledger.orders()
    return History(
        now=now,
        champion=champion,
        released=releases[-1].released if releases else None,
        nights=_newest([*nights(storage, application), night]),
        orders=orders,
        claims=ledger.claims(orders),
        outcomes=ledger.outcomes(orders),
        snooze=ledger.snooze(),
        new_examples=new_examples(storage, application, champion),
    )


def _newest(found: list[Night]) -> list[Night]:
    newest: dict[tuple[str, str, str], Night] = {}
    for night in found:
        key = (night.interval, night.monitor, night.model_digest)
        if key not in newest or newest[key].created <= night.created:
            newest[key] = night
    return [newest[key] for key in sorted(newest)]


def new_examples(storage: str, application: str, model_digest: str) -> int:
    """Count the training examples of accepted days that a model's snapshot does not have, from manifests alone.

    Days before the snapshot's first are not new: it left them out on purpose. Where the model or its snapshot is gone,
    every accepted day counts.
    """
    known = _days_of(storage, application, model_digest)
    return sum(
        int(published.manifest.facts.get("splits", {}).get("train", 0))
        for published in published_examples(storage, application)
        if published.refused is None and published.key not in known and published.key >= min(known, default="")
    )


def _days_of(storage: str, application: str, model_digest: str) -> set[str]:
    """The interval keys of the snapshot that a model was trained on."""
    models = partition_of(storage, application, "models")
    for address in names_in(models):
        manifest = read_manifest(models / address)
        if manifest and manifest.digest == model_digest and manifest.parents:
            snapshot = read_manifest(UPath(manifest.parents[0].uri))
            return {UPath(parent.uri).name for parent in snapshot.parents} if snapshot else set()
    return set()
