"""Looks at the first intervals of a released version, one after the other: do they measure what was promised of it?"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from nightshift.evaluation.rails import column_of
from nightshift.evaluation.scores import per_example
from nightshift.evaluation.watch_file import ROWS, WATCH, WatchFile, newest_look, watch_partition
from nightshift.ledger.records import Release, of_challenger
from nightshift.monitoring.due_intervals import Answered
from nightshift.monitoring.logged_prompts import rows_of_interval
from nightshift.monitoring.promise import Rows, measures_of, promise_of, verdict_of
from nightshift.monitoring.published_intervals import of_champion, reports_of
from nightshift.settings.application import Application
from nightshift.settings.metrics import DriftKind
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Parent, require_manifest
from nightshift.storage.partition import fetch, publish, read_file
from nightshift.verdict import Verdict

MOST_ROWS = 1_000  # of an interval

log = logging.getLogger(__name__)


def watch_release(
    application: Application, storage: str, releases: Sequence[Release], answered: Sequence[Answered]
) -> None:
    """Look at the intervals of the newest release that have a verdict and were not looked at, until its watch has ended.

    An earlier champion that comes back promises nothing, and is not watched.

    :param answered: intervals of the application, of any version.
    :raises BadInput: an interval, its prompts, what was promised, or a look is damaged.
    """
    settings = application.watch
    if settings is None or not releases:
        return
    *before, release = releases
    if release.model_digest in {one.model_digest for one in before}:
        return
    known = newest_look(storage, application.name, release.number)
    # What it answered in its split came before the release.
    since = [one for one in answered if not of_challenger(str(one.partition))]
    own = of_champion(sorted(since, key=lambda one: one.key), release.model_digest, release)
    for interactions in own:
        if known and (known.verdict is Verdict.FAIL or len(known.intervals) >= settings.intervals):
            return
        if known and interactions.key in known.intervals:
            continue
        reports = [
            manifest.facts
            for _, manifest in reports_of(storage, application.name, "drift", interactions.key)
            if manifest.facts.get("model_digest") == release.model_digest
        ]
        if not reports:
            continue
        drifted = reports[-1]["verdict"] == Verdict.FAIL and DriftKind.DATA in reports[-1].get("kinds", ())
        known = _look(application, storage, release, before, known=known, interactions=interactions, drifted=drifted)
        log.info("release %d, version %s: %s", release.number, release.version, "; ".join(known.reasons))


def _look(
    application: Application,
    storage: str,
    release: Release,
    before: Sequence[Release],
    *,
    known: WatchFile | None,
    interactions: Answered,
    drifted: bool,
) -> WatchFile:
    """Publish what one more interval says, or find it."""
    assert application.watch is not None  # noqa: S101  (`watch_release` looked)
    look = len(known.intervals) + 1 if known else 1
    with scratch_folder(UPath(storage)) as folder:
        rows: Rows = []
        if known:
            last = watch_partition(storage, application.name, release.number, look - 1)
            rows = pq.read_table(fetch(last, require_manifest(last), ROWS, folder / "known")).to_pylist()
        if not drifted:
            rows += _rows_of(interactions, application, storage, release, look)
        promise = promise_of(application, storage, release, before[-1] if before else None, folder)
        rails = application.watched_rails
        measures = measures_of(promise, rows, look, application.watch, rails=rails, metric=application.gate.metric)
        verdict, reasons = verdict_of(measures, promise.scores, application.watch, rails)
        file = WatchFile(
            application=application.name,
            release=release.number,
            version=release.version,
            promised_by=promise.by,
            intervals=[*(known.intervals if known else ()), interactions.key],
            of=application.watch.intervals,
            drifted=[*(known.drifted if known else ()), *([interactions.key] if drifted else ())],
            measures=measures,
            margin=application.watch.margin,
            verdict=verdict,
            reasons=reasons,
        )
        made = folder / "made"
        made.mkdir()
        (made / WATCH).write_text(file.model_dump_json(indent=1), encoding="utf-8")
        pq.write_table(pa.Table.from_pylist(rows, schema=_schema(application)), made / ROWS)
        at = watch_partition(storage, application.name, release.number, look)
        manifest = publish(
            at,
            made,
            kind="watch",
            application=application.name,
            inputs={"release": release.model_digest, "look": look, "interactions": interactions.digest},
            interval=interactions.interval,
            rows={ROWS: len(rows)},
            facts={"verdict": verdict.value, "reasons": reasons},
            parents=[Parent(uri=str(interactions.partition), digest=interactions.digest)],
            replacing=False,
        )
    return WatchFile.model_validate_json(read_file(at, manifest, WATCH))


def _rows_of(interactions: Answered, application: Application, storage: str, release: Release, look: int) -> Rows:
    """Scores of the rows of an interval that the shadow would ask about: unlike all that was trained on."""
    drawn = [row for row, _ in rows_of_interval(interactions, application, storage, release.model_digest, MOST_ROWS)]
    told = [row for row in drawn if row["reference"] is not None]
    scores = per_example([row["response"] for row in told], [row["reference"] for row in told])
    right = dict(zip((row["row"] for row in told), scores[application.gate.metric], strict=True))
    return [
        {
            "look": look,
            "unit": row["unit"],
            "reference": right.get(row["row"]),
            **{name: row.get(name) for name in _scored(application)},
        }
        for row in drawn
    ]


def _scored(application: Application) -> list[str]:
    """The columns of interactions that a look keeps."""
    return ["judge", *map(column_of, application.watched_rails.rails)]


def _schema(application: Application) -> pa.Schema:
    scores = [(name, pa.float64()) for name in ("reference", *_scored(application))]
    return pa.schema([("look", pa.int64()), ("unit", pa.string()), *scores])
