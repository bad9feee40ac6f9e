"""What the job `feedback` does for rows of earlier intervals that wait: it looks for interactions that came since, for a while.

Each row stays in the partition of its own interval, which is made anew from its own files: so it is joined once, whichever
run finds its interaction, and the sources are not read again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from nightshift.errors import BadEnvironment, BadInput
from nightshift.jobs.contract import IntervalSpec
from nightshift.settings.interval import Interval
from nightshift.storage.erasures import came_since
from nightshift.storage.files import names_in, read_bytes, read_each, replace
from nightshift.storage.manifest import Manifest, Parent, read_manifest, require_manifest
from nightshift.storage.partition import fetch, partition_of, publish

if TYPE_CHECKING:
    from nightshift.monitoring.due_intervals import Answered

LOOKED = "looked.json"  # beside a partition: its digest, and those of intervals that held nothing of what waits in it


@dataclass
class Waited:
    """What became of the rows of earlier intervals that waited.

    :param waiting: how many still wait; `oldest` is the first interval with some of them.
    :param late: the partitions with rows that were joined late, by this run or an earlier one: interval, address and manifest.
    :param unreadable: what is wrong with a partition that cannot be read.
    """

    joined: int = 0
    given_up: int = 0
    waiting: int = 0
    oldest: Interval | None = None
    late: list[tuple[Interval, UPath, Manifest]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def days(self, until: Interval) -> float:
        """Return for how many days before the end of an interval the oldest of those that still wait has waited."""
        return (until.end - self.oldest.end) / timedelta(days=1) if self.oldest else 0.0

    def sentences(self, until: Interval) -> Iterator[str]:
        """Say what became of them, where there were any."""
        if self.joined or self.given_up:
            yield f"of earlier intervals {self.joined:,} rows were joined now and {self.given_up:,} quarantined"
        if self.oldest:
            since = f"the oldest of {self.oldest.key} for {self.days(until):.3g} days"
            yield f"{self.waiting:,} rows of earlier intervals wait, {since}"
        yield from self.unreadable


def look_again(spec: IntervalSpec, lookback_days: int, work: Path) -> Waited:
    """Join what waited in the intervals before to interactions that came since; after `lookback_days` it is quarantined.

    Intervals of twice these days are looked at, so that some runs may be left out.

    :raises BadEnvironment: storage cannot be read, or rows are being erased.
    """
    from nightshift.monitoring.published_intervals import interactions_between

    name, end, window = spec.application.name, spec.interval.end, timedelta(days=lookback_days)
    folder, waited = partition_of(spec.storage, name, "feedback"), Waited()
    known = [(key, of) for key in names_in(folder) if (of := Interval.of_key(key))]
    earlier = sorted((of.end, key, of) for key, of in known if end - 2 * window < of.end < end)

    def read(key: str) -> Manifest | None:
        try:
            return read_manifest(folder / key)
        except BadInput as error:
            waited.unreadable.append(str(error))
            return None

    read_earlier = read_each(folder, read, [key for _, key, _ in earlier])
    there = [(of, manifest) for (_, _, of), manifest in zip(earlier, read_earlier, strict=True) if manifest]
    answered: list[Answered] | None = None
    if waits := [of for of, manifest in there if manifest.counts["waiting"]]:
        try:
            answered = interactions_between(spec.storage, name, waits[0].end - window, waits[-1].end)
        except BadInput as error:
            waited.unreadable.append(f"nothing is looked for and nothing given up: {error}")
    local = cache(lambda one: _fetched(one, work / "interactions" / one.digest))
    for of, manifest in there:
        made, partition = manifest, folder / of.key
        if manifest.counts["waiting"]:
            about = [
                one for one in answered or () if one.interval.start < of.end and of.end - window < one.interval.end
            ]
            given_up = f"no interaction that it is about was published in {lookback_days} days"
            given_up = given_up if answered is not None and of.end <= end - window else ""
            try:
                made = _anew(partition, manifest, about, local, work / of.key, given_up)
            except BadInput as error:
                waited.unreadable.append(str(error))
            waited.joined += made.counts["joined"] - manifest.counts["joined"]
            waited.given_up += made.counts["quarantined"] - manifest.counts["quarantined"]
            waited.waiting += made.counts["waiting"]
            waited.oldest = waited.oldest or (of if made.counts["waiting"] else None)
        if "joined_late" in made.facts:
            waited.late.append((of, partition, made))
    return waited


def _anew(  # noqa: PLR0917
    partition: UPath,
    before: Manifest,
    answered: Sequence[Answered],
    local: Callable[[Answered], Path],
    work: Path,
    given_up: str,
) -> Manifest:
    """Publish a partition anew where something that waited is found, or given up; else its manifest stays.

    Which intervals were looked in and held nothing is written beside it.
    """
    from nightshift.data.examples import QUARANTINE
    from nightshift.data.feedback import FEEDBACK, WAITING, said_in
    from nightshift.data.quarantine import Reason
    from nightshift.data.waiting_feedback import join_waiting

    new = [interactions for interactions in answered if interactions.digest not in before.inputs["interactions"]]
    looked: Any = []
    with suppress(ValueError, RecursionError):  # damaged: what waits is looked for once more
        looked = json.loads(read_bytes(partition / LOOKED) or b"[]") if new else []
    if isinstance(looked, list) and looked[:1] == [before.digest]:
        new = [interactions for interactions in new if interactions.digest not in looked]
    if not (new or given_up):
        return before
    target = work / "partition"
    target.mkdir(parents=True)
    try:
        own = {name: fetch(partition, before, name, work / "before") for name in (FEEDBACK, WAITING, QUARANTINE)}
        joined, left = join_waiting(own, ((one.key, local(one)) for one in new), work, target, given_up)
        if not joined and not given_up:
            replace(partition / LOOKED, json.dumps([before.digest, *(one.digest for one in answered)]).encode())
            return before
        aside, counts, facts = left if given_up else 0, before.counts, before.facts
        counts = counts | {"joined": counts["joined"] + joined, "waiting": left - aside}
        counts["quarantined"] += aside
        models, found = said_in(target / FEEDBACK, work)
        facts = facts | {"models": models, "nights": dict(sorted(found.items()))}
        if joined:
            facts["joined_late"] = before.facts.get("joined_late", 0) + joined
        if aside:
            facts["quarantine"] = facts["quarantine"] | {Reason.NO_INTERACTION.value: aside}
        if (now := read_manifest(partition)) != before:
            return now or before  # its own task made it anew meanwhile, with more interactions than there were
        if came_since(partition):  # :func:`publish` would drop it, and its sources may be gone
            raise BadEnvironment(f"{partition}: rows are being erased; the next try begins with what is left")
        return publish(
            partition,
            target,
            kind="feedback",
            application=before.application,
            interval=before.interval,
            inputs={
                **before.inputs, "interactions": [one.digest for one in answered], **({"given_up": True} if aside else {}),
            },
            rows={FEEDBACK: counts["joined"], WAITING: counts["waiting"], QUARANTINE: counts["quarantined"]},
            counts=counts,
            facts=facts,
            parents=[Parent(uri=str(one.partition), digest=one.digest) for one in answered],
        )  # fmt: skip
    finally:
        shutil.rmtree(work, ignore_errors=True)


def fetched(answered: Sequence[Answered], folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the keys of intervals with local files of their interactions, each there until the next is asked for."""
    for interactions in answered:
        yield interactions.key, _fetched(interactions, folder)
        shutil.rmtree(folder, ignore_errors=True)


def _fetched(interactions: Answered, folder: Path) -> Path:
    from nightshift.data.interactions import INTERACTIONS

    manifest = require_manifest(interactions.partition, interactions.digest)
    return fetch(interactions.partition, manifest, INTERACTIONS, folder)
