"""Finds the rows of an erasure: partitions of rows are searched by column, derived ones are found by their parents."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from upath import UPath

from nightshift.data.examples import CORRECTIONS, EXAMPLES, QUARANTINE
from nightshift.data.feedback import FEEDBACK, WAITING
from nightshift.data.interactions import INTERACTIONS
from nightshift.data.review_pairs import PAIRS
from nightshift.data.review_sample import SAMPLE, SAMPLES
from nightshift.data.snapshot import JUDGED
from nightshift.erasure.found_rows import FoundRows
from nightshift.erasure.plan import Change, Plan, unlisted
from nightshift.erasure.rows import Hits, batches, numbered, numbers_of
from nightshift.erasure.target import ErasureTarget, letters, plain
from nightshift.inference.prompts import numbers_in_arm
from nightshift.ledger.reviews import reviews_by_path
from nightshift.storage.application_version import PARTS, VERSIONS
from nightshift.storage.files import names_in
from nightshift.storage.manifest import Manifest, read_manifest
from nightshift.storage.partition import read_file

ROWS_OF = re.compile(
    r"(?:^|/)((?:examples|traffic|corrections|shadow_prompts|snapshots|interactions|probes|searches)/[^/]+|(?:arms|replays)/[^/]+/[^/]+)$"
)
SHOWN = 40  # letters and digits at the beginning of a prompt, by which pages that show it are found


@dataclass
class Finding:
    """A search through an application's folder, `home`.

    Memory: the numbers and digests of found rows, and 5,000 rows at a time.

    :raises BadInput: a partition is damaged, so that its rows cannot be searched.
    """

    home: UPath
    target: ErasureTarget
    plan: Plan = field(default_factory=Plan)
    judged: dict[str, set[tuple[str, int]]] = field(
        default_factory=dict
    )  # interval -> source and row of feedback that goes
    shown: set[str] = field(default_factory=set)
    content: dict[str, str] = field(default_factory=dict)  # partition of prompts or examples -> its digest
    rows: dict[str, list[int]] = field(default_factory=dict)  # one that loses rows -> their numbers among its prompts

    def __post_init__(self) -> None:
        self.found = FoundRows(self.target)

    def find(self) -> Plan:
        """Return the plan."""
        for kind in ("examples", "traffic", "shadow_prompts"):
            for path, partition, manifest in self._partitions(kind):
                self._examples(path, partition, manifest)
        self._interactions()
        for _, partition, manifest in self._partitions(PAIRS) if self.target.subject else ():
            # If traffic and interactions are gone, only these contain what the person asked.
            places = self._places(partition, manifest, SAMPLE, ["unit"], self.found.unit_rows)
            self.found.digests |= {*self._values(partition, manifest, SAMPLE, "digest", places)}
        for path, partition, manifest in self._partitions("feedback"):
            self._feedback(path, partition, manifest)
        for path, partition, manifest in self._partitions(CORRECTIONS):
            self._corrections(path, partition, manifest)
        for path, partition, manifest in self._partitions("snapshots"):
            self._snapshot(path, partition, manifest)
        self._reviews()
        self._made_of_snapshots()
        for kind, depth, file in (("shadows", 1, "pairs.parquet"), ("watches", 2, "rows.parquet")):
            for path, partition, manifest in self._partitions(kind, depth=depth):
                places = self._places(partition, manifest, file, ["digest", "unit"], self.found.unit_rows)
                self._change(path, partition, manifest, {file: places})
        # Intermediate rows, which are not needed once their result exists; unfinished work makes them again.
        self.plan.deleted += [kind for kind in ("staged", "gathered", "scores") if names_in(self.home / kind)]
        if self.plan.changes:
            self.plan.deleted += [kind for kind in ("judgements", "embeddings") if names_in(self.home / kind)]
        return self.plan

    def _examples(self, path: str, partition: UPath, manifest: Manifest) -> None:
        self.content[path] = manifest.digest
        places = self._places(partition, manifest, EXAMPLES, [self.target.column], self.target.rows)
        rows = {EXAMPLES: places}
        if any(file.name == QUARANTINE for file in manifest.files):
            rows[QUARANTINE] = self._quarantined(partition, manifest)
        if places:
            self.rows[path] = numbers_of(partition, manifest, places)
            self.found.digests |= self._noted(partition, manifest, EXAMPLES, places)
            self.found.ids |= {*self._values(partition, manifest, EXAMPLES, "id", places)} - {None}
        if not path.startswith("shadow_prompts"):
            self._change(path, partition, manifest, rows)
        elif places:
            self.plan.deleted.append(path)
        if any(rows.values()) and path.startswith("examples"):
            docs = self.home / "data_docs" / partition.name
            self.plan.pages += [
                f"data_docs/{docs.name}/{address}/{page}"
                for address in names_in(docs)
                for page in names_in(docs / address)
            ]

    def _quarantined(self, partition: UPath, manifest: Manifest) -> list[int]:
        return self._places(partition, manifest, QUARANTINE, ["subject", "detail", "raw"], self.target.quarantined)

    def _feedback(self, path: str, partition: UPath, manifest: Manifest) -> None:
        """Feedback by the person, and feedback of others about the person's prompts."""
        columns = list({self.target.column, "digest"})
        rows = {
            FEEDBACK: self._places(partition, manifest, FEEDBACK, columns, self.found.same_text_rows),
            WAITING: self._places(partition, manifest, WAITING, [*{*columns, "id"}], self.found.waited_rows),
        }
        given_up = self._places(partition, manifest, QUARANTINE, ["reason", "raw"], self.found.given_up_rows)
        aside = sorted({*self._quarantined(partition, manifest), *given_up})
        self._change(path, partition, manifest, rows | {QUARANTINE: aside})
        if rows[FEEDBACK]:
            of_rows = (
                self._values(partition, manifest, FEEDBACK, name, rows[FEEDBACK]) for name in ("source", "source_row")
            )
            self.judged[partition.name] = set(zip(*of_rows, strict=True))

    def _corrections(self, path: str, partition: UPath, manifest: Manifest) -> None:
        """Corrections of the person's prompts or by the person, and those of erased feedback (same source and row number)."""
        self.content[path] = manifest.digest
        judged = self.judged.get(partition.name, set())

        def hits(batch: pa.RecordBatch) -> pa.Array:
            return self.target.corrections(batch, judged)

        columns = list({self.target.column, "metadata", "source", "source_row"})
        places = self._places(partition, manifest, EXAMPLES, columns, hits)
        if places:
            self.rows[path] = places
            self.found.corrected |= self._noted(partition, manifest, EXAMPLES, places)
        self._change(path, partition, manifest, {EXAMPLES: places})

    def _snapshot(self, path: str, partition: UPath, manifest: Manifest) -> None:
        # If all its sources are unchanged, its rows are among theirs.
        made_of = [below(parent.uri) for parent in manifest.parents]
        same = [
            self.content.get(place) == parent.digest for place, parent in zip(made_of, manifest.parents, strict=True)
        ]
        if same and all(same) and not self.rows.keys() & set(made_of):
            return
        names = [file.name for file in manifest.files]
        columns = [*{self.target.column, "digest"}]
        rows = {
            name: self._places(partition, manifest, name, [*columns, "messages"], self.found.judged_rows)
            if name == JUDGED
            else self._places(partition, manifest, name, columns, self.found.learned_rows)
            for name in names
        }
        for name, places in rows.items():
            self.found.trained |= self._noted(partition, manifest, name, places)
        if self._change(path, partition, manifest, rows):
            self.plan.snapshots.append(path)

    def _interactions(self) -> None:
        """Partitions that refer to rows of prompts by number, and what is derived from them."""
        asked: dict[str, list[int]] = {}
        shifts: dict[str, list[int]] = {}
        for path, manifest in chain(self._folders("responses"), self._folders("shadow_answers", depth=1)):
            place = below(manifest.parents[0].uri)
            if self.rows.get(place) or self.content.get(place) != manifest.parents[0].digest:
                self.plan.deleted.append(path)
        apart = (self._partitions(folder, depth=2) for folder in ("arms", "replays"))
        for path, partition, manifest in chain(self._partitions("interactions"), *apart):
            prompts = manifest.parents[0]
            place = below(prompts.uri)
            shift = self.rows.get(place, [])
            if shift and "arm" in manifest.inputs and self.content.get(place) == prompts.digest:
                shift = numbers_in_arm(self.home / place, manifest.inputs["arm"], {*shift})
            if self.content.get(place) != prompts.digest:  # the prompts were made again, with other row numbers
                shift, places = (
                    [],
                    self._places(partition, manifest, INTERACTIONS, ["id", "digest"], self.found.same_text_rows),
                )
            else:
                places = self._places(partition, manifest, INTERACTIONS, ["row"], numbered(shift)) if shift else []
            if places:
                # If the prompts are gone, only these contain them.
                self.found.digests |= {*self._values(partition, manifest, INTERACTIONS, "digest", places)}
                asked[path] = self._values(partition, manifest, INTERACTIONS, "row", places)
                shifts[path] = shift
                self._change(path, partition, manifest, {INTERACTIONS: places}, shift)
        intervals = [path.rpartition("/")[2] for path in asked]
        for path, partition, manifest in self._of_intervals("profiles", intervals):
            interactions = below(manifest.parents[0].uri)
            if interactions in asked:
                rows = {
                    name: self._places(partition, manifest, name, ["row"], numbered(asked[interactions]))
                    for name in ("sample.parquet", "novel.parquet")
                }
                self._change(path, partition, manifest, rows, shifts[interactions])
        for path, partition, manifest in self._of_intervals("drift", intervals):
            if manifest.parents and below(manifest.parents[0].uri) in asked:
                self._change(path, partition, manifest, {})

    def _reviews(self) -> None:
        """Samples shown to reviewers, reviews of the person's answers, and reviews by the person."""
        for path, partition, manifest in chain(self._partitions(SAMPLES), self._partitions(PAIRS)):
            places = self._places(partition, manifest, SAMPLE, ["digest"], self.found.same_text_rows)
            self._change(path, partition, manifest, {SAMPLE: places})
        goes = {*self.found.digests, *self.found.trained, self.target.digest}
        for path, review in reviews_by_path(self.home):
            if review.digest in goes or (self.target.subject and review.by == self.target.typed):
                self.plan.deleted.append(path)

    def _made_of_snapshots(self) -> None:
        snapshots = set(self.plan.snapshots)
        if not snapshots:
            return
        digests = {manifest.digest for path in snapshots if (manifest := read_manifest(self.home / path))}
        for path, manifest in chain(self._folders("tokens"), self._folders("checkpoints")):
            if manifest.inputs.get("snapshot") in digests:
                self.plan.deleted.append(path)
        for path, partition, manifest in self._partitions("answers"):
            if self._places(partition, manifest, "answers.parquet", ["digest"], self.found.trained_rows):
                self.plan.deleted.append(path)
        for kind, file in (("evaluations", "answers.parquet"), ("references", "sample.parquet")):
            for path, partition, manifest in self._partitions(kind):
                if snapshots & _parents(manifest):
                    places = self._places(partition, manifest, file, ["digest"], self.found.trained_rows)
                    self._change(path, partition, manifest, {file: places})
        searches = {path for path, _, manifest in self._partitions("searches") if snapshots & _parents(manifest)}
        results = {path for path, _, manifest in self._partitions("search_results") if searches & _parents(manifest)}
        self.plan.deleted += sorted(searches | results)
        self.plan.versions = [
            path
            for path, partition, manifest in self._partitions(VERSIONS)
            if self._shows(read_file(partition, manifest, PARTS))
        ]
        probes = {
            path
            for path, partition, manifest in self._partitions("probes")
            if self._shows(read_file(partition, manifest, "answers.json"))
        }
        self.plan.deleted += sorted(probes)
        for path, partition, manifest in self._partitions("bias", depth=2):
            if probes & _parents(manifest):
                self._change(path, partition, manifest, {})

    def _change(
        self,
        path: str,
        partition: UPath,
        manifest: Manifest,
        rows: dict[str, list[int]],
        shift: list[int] | None = None,
    ) -> bool:
        """Plan the rows that a partition loses, and its pages that show a row; return whether there are any."""
        rows = {name: places for name, places in rows.items() if places}
        texts = [file.name for file in manifest.files if file.name.endswith((".html", ".json"))]
        pages = [name for name in texts if self._shows(read_file(partition, manifest, name))] if self.shown else []
        if rows or pages:
            self.plan.changes.append(Change(path=path, rows=rows, shift=shift or [], pages=pages))
        return bool(rows or pages)

    def _partitions(self, kind: str, *, depth: int = 1) -> Iterator[tuple[str, UPath, Manifest]]:
        """Yield the partitions `depth` levels below a folder with their paths; note unlisted files of attempts."""
        for path in self._below(kind, depth):
            partition = self.home / path
            manifest = read_manifest(partition)
            if unlisted(partition, manifest):
                self.plan.swept.append(path)
            if manifest:
                yield path, partition, manifest

    def _of_intervals(self, kind: str, intervals: list[str]) -> Iterator[tuple[str, UPath, Manifest]]:
        return chain.from_iterable(self._partitions(f"{kind}/{interval}") for interval in sorted(set(intervals)))

    def _folders(self, kind: str, *, depth: int = 2) -> Iterator[tuple[str, Manifest]]:
        """Yield folders of related partitions, each with the manifest of one of them; folders without any are deleted."""
        for path in self._below(kind, 1):
            parts = (read_manifest(self.home / part) for part in self._below(path, depth - 1))
            if manifest := next(filter(None, parts), None):
                yield path, manifest
            elif unlisted(self.home / path, None):
                self.plan.deleted.append(path)

    def _below(self, path: str, depth: int) -> list[str]:
        if depth == 0:
            return [path]
        return [deeper for name in names_in(self.home / path) for deeper in self._below(f"{path}/{name}", depth - 1)]

    def _places(self, partition: UPath, manifest: Manifest, name: str, columns: list[str], hits: Hits) -> list[int]:
        """The indices of the rows of a file for which `hits` is true, reading only some columns."""
        found: list[int] = []
        begin = 0
        for batch in batches(partition, manifest, name, columns):
            found += (np.flatnonzero(hits(batch)) + begin).tolist()
            begin += batch.num_rows
        return found

    def _noted(self, partition: UPath, manifest: Manifest, name: str, places: list[int]) -> set[str]:
        """Note the beginnings of some rows' prompts, to find them on pages; return the digests of these rows."""
        if not places:
            return set()
        self.shown |= {letters(text)[:SHOWN] for text in self._values(partition, manifest, name, "prompt", places)}
        return set(self._values(partition, manifest, name, "digest", places))

    def _values(self, partition: UPath, manifest: Manifest, name: str, column: str, places: list[int]) -> list[Any]:
        found: list[Any] = []
        begin, numbers = 0, np.array(places, int)
        for batch in batches(partition, manifest, name, [column]):
            here = numbers[(numbers >= begin) & (numbers < begin + batch.num_rows)] - begin
            found += batch.column(0).take(pa.array(here)).to_pylist() if batch.num_columns else []
            begin += batch.num_rows
        return found

    def _shows(self, content: bytes) -> bool:
        text = plain(content)
        texts = [letters(html.unescape(one)) for one in (text, re.sub(r"<[^>]*>", "", text))]
        return any(beginning in one for beginning in self.shown for one in texts)


def below(uri: str) -> str:
    """Return the path of a partition of rows below its application's folder, also after storage moved."""
    found = ROWS_OF.search(uri.rstrip("/"))
    return found[1] if found else uri


def _parents(manifest: Manifest) -> set[str]:
    return {below(parent.uri) for parent in manifest.parents}
