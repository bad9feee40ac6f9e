"""Which intervals are to be judged, from manifests alone: never from an event, nor from a run's data interval."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from upath import UPath

from nightshift.settings.application import Application
from nightshift.settings.interval import Interval
from nightshift.settings.schedule import interval_holding
from nightshift.settings.split import Arm
from nightshift.storage.manifest import Manifest, digest_of
from nightshift.storage.partition import partition_of

log = logging.getLogger(__name__)

MOST_INTERVALS = 60  # of the newest that are looked at: a first run over years of traffic ends some time
VERSION = 2  # of how intervals are judged; another one judges them all again


@dataclass(frozen=True)
class Answered:
    """An interval's interactions; `model_digest` says which model answered, "" one that is served elsewhere.

    :param feedback: digest of what people said of models in its interval; "": there is none, or nobody looked.
    :param feedback_partition: digest of that partition, which verdicts of earlier versions name instead.
    :param arm: its rows, where two versions answered the interval.
    """

    partition: UPath
    digest: str
    interval: Interval
    model_digest: str
    feedback: str = ""
    feedback_partition: str = ""
    arm: Arm | None = None

    @property
    def key(self) -> str:
        """Name of the interval."""
        return self.interval.key

    @property
    def day(self) -> date:
        """The day on which the interval's traffic began."""
        return self.interval.start.date()


@dataclass(frozen=True)
class Due:
    """An interval to judge, the model whose reference it is held against, and what determines its verdict."""

    answered: Answered
    model_digest: str
    inputs: dict[str, Any]

    @property
    def address(self) -> str:
        """Name of the folder, below the interval's, that the verdict is published in."""
        return digest_of(self.inputs)[:16]


def inputs_of(
    interactions: str | None,
    reference: str,
    application: Application,
    feedback: str = "",
    champion: Answered | None = None,
) -> dict[str, Any]:
    """Return what determines a verdict: digests of the interactions (None: there are none), of the reference and of the
    feedback, and the policy.

    :param champion: as :func:`champion_beside` returns it; it determines the pictures of the report.
    """
    return {
        **({"champion": champion.digest} if champion else {}),
        "interactions": interactions,
        "reference": reference,
        "policy": application.drift.model_dump(mode="json"),
        "segments": application.traffic.segments,
        "version": VERSION,
        **({"feedback": feedback} if feedback else {}),
    }


def due(
    answered: Sequence[Answered],
    judged: Mapping[str, Sequence[Mapping[str, Any]]],
    champion: str,
    references: Mapping[str, str],
    application: Application,
) -> list[Due]:
    """Return the intervals without a verdict, oldest first, of the newest 60.

    An interval is held against the reference of the model that answered it; one that was served elsewhere against the
    champion's. It is due again when its interactions, that reference or the policy changed; but what another model than
    the champion answered, here or elsewhere, is judged once: a new champion does not make it news.

    :param judged: inputs of the published verdicts, by the key of the interval.
    :param champion: digest of the champion.
    :param references: digests of the references by the model's digest; the champion's must be there.
    """
    found = []
    for interactions in sorted(answered, key=lambda one: (one.interval.start, one.key))[-MOST_INTERVALS:]:
        model = interactions.model_digest or champion
        known = judged.get(interactions.key, ())
        if model not in references:
            if not known:
                lacks = "%s cannot be judged: the model that answered it (%s) has no reference"
                log.warning(lacks, interactions.key, model[:12])
            continue
        beside = champion_beside(interactions, answered)
        wanted = inputs_of(interactions.digest, references[model], application, interactions.feedback, beside)
        kept = wanted if interactions.model_digest == champion else wanted.keys() & {"interactions", "champion"}
        same = {key: [wanted[key], *([interactions.feedback_partition] if key == "feedback" else [])] for key in kept}
        if not any(all(inputs.get(key) in values for key, values in same.items()) for inputs in known):
            found.append(Due(interactions, model, wanted))
    return found


def champion_beside(interactions: Answered, answered: Sequence[Answered]) -> Answered | None:
    """Return what the champion answered of the interval that a challenger answered a share of; None where there is nothing."""
    arm = interactions.arm
    if arm is None or not arm.challenger:
        return None
    same = (one for one in answered if one.key == interactions.key and one.arm and one.arm.split == arm.split)
    return next((one for one in same if one.arm and not one.arm.challenger), None)


def trailing(answered: Sequence[Answered], interactions: Answered, most: int) -> list[Answered]:
    """Return the intervals before one that the same model answered, oldest first, at most `most`."""
    before = [
        other
        for other in answered
        if other.interval.end <= interactions.interval.start and other.model_digest == interactions.model_digest
    ]
    return sorted(before, key=lambda one: one.interval.start)[-most:] if most else []


def expected_interval(by: datetime, application: Application) -> Interval | None:
    """Return the newest interval of the application's schedule whose interactions must be there `by` then, if any."""
    if application.schedule is None:
        return None
    schedule, zone = application.schedule, application.zone
    last, _ = interval_holding(schedule, by - timedelta(hours=application.clock.grace_hours), zone)
    start, end = interval_holding(schedule, last - timedelta(seconds=1), zone)
    expected = Interval(start=start, end=end)
    return expected if application.has_data(expected) else None


def lacking(
    by: datetime | None, answered: Sequence[Answered], unreadable: Collection[str], application: Application
) -> Interval | None:
    """Return the interval that must be there `by` then and is not, else None.

    :param unreadable: keys of intervals that are there and cannot be read.
    """
    expected = expected_interval(by, application) if by else None
    if expected is None or expected.key in unreadable:
        return None
    there = any(one.interval.start < expected.end and expected.start < one.interval.end for one in answered)
    return None if there else expected


def answered_interval(partition: UPath, manifest: Manifest) -> Answered:
    """Return a published partition of interactions as this module sees it."""
    assert manifest.interval is not None  # noqa: S101  (every interval has one)
    rows = manifest.inputs.get("arm")
    return Answered(
        partition,
        manifest.digest,
        manifest.interval,
        str(manifest.facts.get("model_digest", "")),
        arm=Arm.model_validate(rows) if rows else None,
    )


def drift_partition(storage: str, application: str, interval: str, inputs: Mapping[str, Any]) -> UPath:
    """Return the address of a verdict."""
    return partition_of(storage, application, "drift", interval, digest_of(inputs)[:16])
