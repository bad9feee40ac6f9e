"""The task `remove_old`, which removes unused indexes, and the check that a version's index still exists."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowSkipException
from upath import UPath

from nightshift.errors import BadInput
from nightshift.orchestration.attempt import storage_uri
from nightshift.orchestration.ledger_task import LEDGER_TASK_ARGUMENTS, ledger_task, mlflow
from nightshift.registry.versions import CANDIDATE, CHAMPION
from nightshift.retrieval.newest import mark_used
from nightshift.storage.files import read_each
from nightshift.storage.manifest import Parent, read_manifest

if TYPE_CHECKING:
    from nightshift.ledger.store import Ledger
    from nightshift.registry.rest import Mlflow
    from nightshift.registry.versions import Registered

log = logging.getLogger(__name__)


@task(**LEDGER_TASK_ARGUMENTS)
def remove_old(application: str, **context: Any) -> dict[str, Any]:
    """Remove indexes that no active version has pinned and that were not used for `retrieval.keep_days`.

    :return: `removed`, the names of their partitions.
    :raises AirflowSkipException: all indexes are kept.
    """
    from nightshift.retrieval.unused import remove_unused

    with ledger_task(application, context) as (app, ledger), mlflow() as server:
        days = app.retrieval.keep_days if app.retrieval else None
        if days is None:
            raise AirflowSkipException("`retrieval.keep_days` is null: all indexes are kept")
        since = datetime.now(UTC) - timedelta(days=days)
        versions = sorted({*_may_answer(app.name, ledger, server, since)} - {""})
        indexes = read_each(UPath(storage_uri()), indexes_of, versions)
        pinned = {UPath(index.uri).name for found in indexes for index in found}
        removed = remove_unused(storage_uri(), app.name, since, pinned)
        log.info(
            "removed %d indexes; %d versions may answer, from %d indexes", len(removed), len(versions), len(pinned)
        )
        return {"removed": removed}


def _may_answer(name: str, ledger: Ledger, server: Mlflow, since: datetime) -> Iterator[str]:
    """URIs of versions that answer now, answered since `since` or before the current champion, or may be released."""
    from nightshift.ledger.splits import running

    releases, splits = ledger.releases(), [split] if (split := running(ledger)) else []
    champion = server.with_alias(name, CHAMPION)
    for registered in (champion, server.with_alias(name, CANDIDATE)):
        yield registered.model if registered else ""
    # A run answers with the version that was the champion when the run began.
    yield from (release.model for release, next_one in pairwise(releases) if next_one.released >= since)
    others = (one for one in reversed(releases) if champion and one.version and one.model_digest != champion.digest)
    yield from (one.model for one in (*releases[-1:], *[next(others, None)]) if one)
    # Intervals stay assigned to both versions of a split, and may be run again after it ended.
    splits += [one for one in ledger.splits() if (end := ledger.split_end(one.number)) and end.ended >= since]
    asked = {one.version for one in ledger.requests().values() if one.until >= datetime.now(UTC)}
    for version in sorted(asked.union(*((one.version, one.champion) for one in splits))):
        found = server.version_of(name, version)
        yield found.model if found else ""


def indexes_of(version: str) -> list[Parent]:
    """Return the index that a version answers from, by the version's URI: one or none."""
    manifest = read_manifest(UPath(version))
    return manifest.parents[1:] if manifest and manifest.kind == "version" else []


def require_index(version: Registered) -> None:
    """Make sure that a version's index exists, and protect it from removal.

    :raises BadInput: the index was removed.
    """
    for index in indexes_of(version.model) if version.model else ():
        # Marked before the check: a concurrent removal sees the mark, or has removed it already.
        mark_used(UPath(index.uri))
        if read_manifest(UPath(index.uri)) is None:
            raise BadInput(
                f"the document index of version {version.version} was removed, because it was not used for "
                f"`retrieval.keep_days`; start {version.name}_reconfigure for a version with the current documents"
            )
