"""The summary of an ingest: a verdict and a sentence about the raw rows of an interval."""

from __future__ import annotations

from nightshift.storage.manifest import Manifest
from nightshift.verdict import Verdict


def verdict_of(manifest: Manifest) -> Verdict:
    """Return FAIL where nothing was kept, and WARN where nothing of a file could be used."""
    if not manifest.counts["kept"]:
        return Verdict.FAIL
    return Verdict.WARN if manifest.facts["unusable"]["files"] else Verdict.PASS


def sentence_of(manifest: Manifest) -> str:
    """Return what became of the rows, as people read it."""
    counts = manifest.counts
    parts = [f"{counts['kept']:,} of {counts['rows_in']:,} rows kept"]
    parts += [
        f"{counts[name]:,} {name.replace('_', '-')}"
        for name in ("duplicates", "near_duplicates", "quarantined", "erased")
        if counts.get(name)
    ]
    if between := manifest.facts["between_sides"]:
        parts.append(f"{between:,} belong to two sides and are on none")
    if unsearched := manifest.facts.get("names_not_searched"):
        languages = ", ".join(f"{language} {rows:,}" for language, rows in unsearched.items())
        parts.append(f"{sum(unsearched.values()):,} not searched for names, for lack of a model ({languages})")
    unusable = manifest.facts["unusable"]
    more = unusable["files"] - len(unusable["first"])
    files = [*unusable["first"], *([f"{more:,} more files without a row that could be used"] if more else [])]
    return ". ".join([", ".join(parts), *files])
