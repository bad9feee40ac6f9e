"""Carries out the plan of an erasure; it can be repeated after a kill."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.examples import EXAMPLES, QUARANTINE, ROWS_AT_ONCE
from nightshift.data.feedback import FEEDBACK, WAITING
from nightshift.data.interactions import INTERACTIONS
from nightshift.data.review_sample import SAMPLE
from nightshift.data.snapshot import DEVELOPMENT, HELD_OUT, JUDGED, REGRESSION, TRAIN
from nightshift.erasure.plan import Change, Plan, unlisted
from nightshift.storage.files import replace, scratch_folder
from nightshift.storage.manifest import Manifest, read_manifest
from nightshift.storage.partition import drop, fetch, rewrite, upload

# The manifest's count of each file's rows, and the facts and counts that are kept by value of a column.
COUNTED = {
    EXAMPLES: "kept", QUARANTINE: "quarantined", TRAIN: "train", HELD_OUT: "held_out", DEVELOPMENT: "development",
    INTERACTIONS: "rows", FEEDBACK: "joined", WAITING: "waiting", REGRESSION: "regression", SAMPLE: "rows", JUDGED: "judged",
}  # fmt: skip
BY_VALUE = {"split": "splits", "language": "languages", "reason": "quarantine"}
FINISH = "finish_reason"
# Lists with example rows in our JSON files: of an evaluation, and of an interval's report.
LISTS = {"few", "new"}
PAGE = (
    '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Erased</title>'
    "<p>This page showed a row that was erased (erasure {number}). Its numbers are in MLflow, and in the files beside it.</p>\n"
)

# Called with files of a partition, or pages of Great Expectations, before they are replaced, since MLflow has copies.
Replaced = Callable[[str, list[Path]], None]


def apply(home: UPath, plan: Plan, number: int, replaced: Replaced) -> None:
    """Carry out a plan: rewrite and delete what it names.

    :param number: of the erasure.
    :raises BadInput: a file is not what its manifest says.
    """
    for change in plan.changes:
        _rewrite(home, change, number, replaced)
    for path in plan.swept:
        sweep(home / path)
    for path in plan.deleted:
        drop(home / path)
    for path in plan.pages:
        with scratch_folder(home.parent) as folder:
            page = folder / path.rpartition("/")[2]
            page.write_text(PAGE.format(number=number), encoding="utf-8")
            replaced(path, [page])
            replace(home / path, page.read_bytes())


def sweep(partition: UPath) -> None:
    """Remove files of a partition that its manifest does not list."""
    for path in unlisted(partition, read_manifest(partition)):
        with suppress(FileNotFoundError):
            partition.fs.rm_file(path)


def _rewrite(home: UPath, change: Change, number: int, replaced: Replaced) -> None:
    """Write files without the rows, list them in the partition's manifest, then remove the old ones.

    The new files are in a folder of the erasure's number, and the same rows give the same bytes, so concurrent calls agree.
    """
    partition = home / change.path
    manifest = read_manifest(partition)
    if manifest is None:
        return
    if manifest.erasure < number:
        with scratch_folder(home.parent) as work, scratch_folder(home.parent) as folder:
            counts, facts = _write(partition, manifest, change, number, work, folder)
            rows = {name: pq.read_metadata(folder / name).num_rows for name in change.rows}
            replaced(change.path, [folder / name for name in (*change.pages, *change.rows)])
            logs = {file.name for file in manifest.files if file.log}
            new = {file.name: file for file in upload(partition, folder, f"erased-{number:06d}", rows=rows, logs=logs)}
        files = [new.get(file.name, file) for file in manifest.files]
        update = {"files": files, "counts": counts, "facts": facts, "erasure": number, "published": manifest.digest}
        rewrite(partition, manifest.model_copy(update=update))
    sweep(partition)


def _write(  # noqa: PLR0917
    partition: UPath, manifest: Manifest, change: Change, number: int, work: Path, folder: Path
) -> tuple[dict[str, int], dict[str, Any]]:
    """Write the new files to `folder`; return the counts and facts of the manifest without the rows."""
    counts, facts = dict(manifest.counts), dict(manifest.facts)
    for name, places in change.rows.items():
        lost = _filter(fetch(partition, manifest, name, work), folder / name, places, change.shift)
        if COUNTED.get(name) in counts:
            counts[COUNTED[name]] -= len(places)
        counts["erased"] = counts.get("erased", 0) + len(places)
        for column, values in lost.items():
            into = counts if column == FINISH else facts.get(BY_VALUE[column], {})
            into = {key: into[key] - values[key] for key in into.keys() & values.keys()}
            if column == FINISH:
                counts |= into
            elif into:
                facts[BY_VALUE[column]] = facts[BY_VALUE[column]] | into
    for name in change.pages:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".json"):
            content = json.loads(fetch(partition, manifest, name, work).read_bytes())
            target.write_text(json.dumps(_emptied(content), indent=1), encoding="utf-8")
        else:
            target.write_text(PAGE.format(number=number), encoding="utf-8")
    return counts, facts


def _filter(source: Path, target: Path, places: list[int], shift: list[int]) -> dict[str, Counter[str]]:
    """Copy a Parquet file without some rows; return how often the removed rows had each value, for counted columns."""
    lost: dict[str, Counter[str]] = {}
    gone, moved = np.array(places), np.array(shift)
    begin = 0
    with pq.ParquetFile(source, pre_buffer=False) as file:
        counted = [name for name in (*BY_VALUE, FINISH) if name in file.schema_arrow.names]
        with pq.ParquetWriter(target, file.schema_arrow, compression="zstd") as writer:
            for batch in file.iter_batches(ROWS_AT_ONCE):
                kept = ~np.isin(np.arange(begin, begin + batch.num_rows), gone)
                begin += batch.num_rows
                rows = pa.Table.from_batches([batch]).filter(pa.array(kept))
                others = batch.filter(pa.array(~kept))
                for name in counted:
                    lost.setdefault(name, Counter()).update(others[name].drop_null().to_pylist())
                if len(moved) and "row" in rows.column_names:
                    numbers = rows["row"].to_numpy()
                    field = rows.schema.field("row")
                    up = pa.array(numbers - np.searchsorted(moved, numbers), field.type)
                    rows = rows.set_column(rows.schema.get_field_index("row"), field, up)
                writer.write_table(rows)
    return lost


def _emptied(value: Any) -> Any:
    """JSON without its example rows."""
    if isinstance(value, list):
        return [_emptied(one) for one in value]
    if isinstance(value, dict):
        return {key: [] if key in LISTS and isinstance(one, list) else _emptied(one) for key, one in value.items()}
    return value
