"""One split map for each application: which side a question is on, for ever, and the signatures to find what is like it.

`<application>/similarity/segments/<number>` holds what one interval added: the keys of its new questions with side,
group and signature (`sides.parquet`), and the pieces of text that were found to be shared (`shared.parquet`). Whoever
creates the manifest of the next number has it; another writer that wanted the same number reads that segment, decides
anew and takes the one after. So intervals that are ingested at once give what they give one after the other, in the
order of the numbers. A segment names the ingest that made it: one that was killed and comes again finds it, and reads
the map as it was before.

Neither text nor ids are stored, so the map stays when partitions are deleted. It has 142 bytes
for each different question (and Parquet's own, together about 150), however often that is asked.

Of eight segments in a row (from 1, 9, 17, …) a merged file is made, of eight of these the next, up to 8^5 segments; the
map of n segments is read from at most 7 * log8(n) files for each 32,768 segments. Merged files are a cache: who finds
none, or a damaged one, reads the segments.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.shared_text import LONG, SHORT, SharedText
from nightshift.data.similarity import VALUES, Keys, Signatures
from nightshift.errors import BadInput
from nightshift.settings.interval import Interval
from nightshift.storage.files import names_in, read_each, scratch_folder
from nightshift.storage.manifest import Manifest, read_manifest
from nightshift.storage.partition import fetch, partition_of, publish

log = logging.getLogger(__name__)

SIDES, SHARED = "sides.parquet", "shared.parquet"
SEGMENTS, MERGED = "segments", "merged"
MERGED_AT_ONCE = 8
LEVELS = 5
ENTRIES_AT_ONCE = 50_000
VERSION = 1  # of signatures and shared text; those of another version cannot be compared

# Codes of the column `side`. A row between two sides is neither trained on nor judged by, and holds nobody to a side.
TRAIN, TRAFFIC, HELD_OUT, DEVELOPMENT, BETWEEN = range(5)
UNKNOWN = 255
NAMES = ("train", "traffic", "held_out", "development", "between")

SIDE_SCHEMA = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),  # similarity.key_of the question
        pa.field("side", pa.uint8(), nullable=False),
        pa.field("group", pa.uint64(), nullable=False),  # 64 bits of the digest of the first row that it resembled
        pa.field("signature", pa.binary(VALUES)),  # null: a later word about a question that has one
    ]
)
SHARED_SCHEMA = pa.schema(
    [pa.field("length", pa.uint8(), nullable=False), pa.field("piece", pa.uint64(), nullable=False)]
)


@dataclass
class Entries:
    """Rows of a map: arrays of one length, and the signatures of those that have one."""

    keys: Keys
    sides: npt.NDArray[np.uint8]
    groups: Keys
    signed: npt.NDArray[np.bool_]
    signatures: Signatures  # of the signed ones, in order

    def table(self) -> pa.Table:
        """As `SIDE_SCHEMA`."""
        values = iter(self.signatures)
        column = [next(values).tobytes() if signed else None for signed in self.signed]
        return pa.table([self.keys, self.sides, self.groups, pa.array(column, pa.binary(VALUES))], schema=SIDE_SCHEMA)


@dataclass(frozen=True)
class State:
    """The map after its first `number` segments."""

    number: int = 0
    shared: SharedText = field(default_factory=SharedText)
    made_by: Mapping[str, int] = field(default_factory=dict)  # digest of an ingest's inputs -> number of its segment
    parts: tuple[tuple[UPath, Manifest], ...] = ()

    def entries(self) -> Iterator[Entries]:
        """Yield what was added, in order, in parts of a bounded size; of two entries of one key the later one holds.

        :raises BadInput: a segment is damaged.
        """
        for table in self._read(None):
            column = table["signature"].combine_chunks()
            known = column.drop_null()
            content = known.buffers()[1] if len(known) else b""
            values = np.frombuffer(content, dtype=np.uint8).reshape(-1, VALUES)[
                known.offset : known.offset + len(known)
            ]
            keys, sides, groups = (table[name].to_numpy() for name in ("key", "side", "group"))
            yield Entries(keys, sides, groups, np.asarray(column.is_valid()), values)

    def sides(self, keys: Keys) -> npt.NDArray[np.uint8]:
        """Return the side of each key; UNKNOWN where it has none."""
        wanted, places = np.unique(keys, return_inverse=True)
        found = np.full(len(wanted), UNKNOWN, dtype=np.uint8)
        for table in self._read(["key", "side"]):
            at, hits = places_in(wanted, table["key"].to_numpy())
            found[at[hits]] = table["side"].to_numpy()[hits]  # of two entries of one key, the later one is written last
        return found[places]

    def _read(self, columns: list[str] | None) -> Iterator[pa.Table]:
        for path in _fetched(self.parts, SIDES):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(ENTRIES_AT_ONCE, columns=columns):
                    yield pa.Table.from_batches([batch])


def _fetched(parts: Iterable[tuple[UPath, Manifest]], name: str) -> Iterator[Path]:
    """Yield a local path of one file of each part; of a damaged merged part, those of its segments.

    :raises BadInput: a segment is damaged.
    """
    for partition, manifest in parts:
        with scratch_folder(partition.parents[3]) as folder:
            try:
                path = fetch(partition, manifest, name, folder)
            except BadInput as error:
                if partition.parent.name != MERGED:
                    raise
                log.warning("%s; its segments are read instead. Delete the folder %s", error, partition)
                level, first = map(int, partition.name.split("-"))
                numbers = range(first, first + MERGED_AT_ONCE**level)
                segments = partition.parents[1] / SEGMENTS
                yield from _fetched(_described([segments / f"{number:08d}" for number in numbers]), name)
            else:
                yield path


def _described(partitions: list[UPath]) -> Iterator[tuple[UPath, Manifest]]:
    """Yield each partition with its manifest.

    :raises BadInput: it has none, or another version of Nightshift wrote it.
    """
    for partition, manifest in zip(
        partitions, read_each(partitions[0], read_manifest, partitions) if partitions else [], strict=True
    ):
        problem = "is missing" if manifest is None else "was written by another version of Nightshift"
        if manifest is None or manifest.inputs.get("version") != VERSION:
            raise BadInput(
                f"{partition}: this segment of the split map {problem}. Restore it from a backup; or delete the whole folder "
                f"{partition.parents[1]}, and the next ingest makes the map anew of what is published"
            )
        yield partition, manifest


def _readable(partition: UPath) -> bool:
    try:
        return read_manifest(partition) is not None
    except BadInput as error:
        log.warning("%s; the segments are read instead. Delete the folder %s", error, partition)
        return False


def places_in(known: Keys, keys: Keys) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return for each key its place in the sorted array `known`, and whether it is there at all."""
    if not len(known):
        return np.zeros(len(keys), np.int64), np.zeros(len(keys), dtype=bool)
    places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return places, known[places] == keys


class SplitMap:
    """The split map of an application, in the storage at a URI."""

    def __init__(self, storage: str, application: str) -> None:
        self._application = application
        self._folder = partition_of(storage, application, "similarity")

    def state(self, before: int | None = None) -> State:
        """Return the map as it is, or as it was before the segment of a number.

        :raises BadInput: a manifest cannot be read.
        """
        last = self._last() if before is None else before - 1
        parts = tuple(self._parts(last))
        made_by: dict[str, int] = {}
        for _, manifest in parts:
            made_by |= manifest.facts["made_by"]
        return State(last, self._shared(parts), made_by, parts)

    def shared_up_to(self, number: int) -> SharedText:
        """Return the pieces of text that the segments up to a number found to be shared."""
        return self._shared(self._parts(number))

    def add(
        self,
        state: State,
        made_by: Sequence[str],
        entries: Iterable[Entries],
        shared: SharedText,
        interval: Interval | None = None,
    ) -> bool:
        """Add the segment after `state`; return False where another one has taken its place in the meantime.

        :param made_by: digests of the inputs that the segment is made from.
        :param shared: the new pieces of shared text.
        """
        number = state.number + 1
        manifest = self._publish(
            self._segment(number),
            (part.table() for part in entries),
            shared,
            {"version": VERSION, "number": number, "made_by": list(made_by)},
            facts={"made_by": dict.fromkeys(made_by, number)},
            interval=interval,
        )
        if manifest.inputs["made_by"] != list(made_by):
            return False
        for level in range(1, LEVELS + 1):
            if number % MERGED_AT_ONCE**level == 0:
                self._merge(number - MERGED_AT_ONCE**level + 1, level)
        return True

    def _publish(
        self,
        partition: UPath,
        tables: Iterable[pa.Table],
        shared: SharedText,
        inputs: dict[str, Any],
        *,
        facts: dict[str, Any],
        interval: Interval | None = None,
    ) -> Manifest:  # fmt: skip
        with scratch_folder(partition.parents[3]) as folder:
            counts = dict.fromkeys(NAMES, 0)
            with pq.ParquetWriter(folder / SIDES, SIDE_SCHEMA, compression="zstd") as writer:
                for table in tables:
                    writer.write_table(table)
                    for side, count in zip(*np.unique(table["side"].to_numpy(), return_counts=True), strict=True):
                        counts[NAMES[side]] += int(count)
            pieces = [(length, piece) for length, all_of in sorted(shared.pieces.items()) for piece in all_of.tolist()]
            lengths, hashes = zip(*pieces, strict=True) if pieces else ((), ())
            pq.write_table(pa.table([lengths, hashes], schema=SHARED_SCHEMA), folder / SHARED)
            return publish(
                partition, folder, kind="similarity", application=self._application, inputs=inputs, interval=interval,
                rows={SIDES: sum(counts.values()), SHARED: len(pieces)}, counts=counts,
                facts=facts | {"shared": len(pieces)}, replacing=False,
            )  # fmt: skip

    def _merge(self, first: int, level: int) -> None:
        parts = tuple(self._parts(first + MERGED_AT_ONCE**level - 1, first, level - 1))
        if len(parts) == 1:
            return
        state = State(parts=parts)
        facts: dict[str, Any] = {"made_by": {}}
        for _, manifest in parts:
            facts["made_by"] |= manifest.facts["made_by"]
        inputs = {"version": VERSION, "parts": [manifest.digest for _, manifest in parts]}
        self._publish(self._merged(first, level), state._read(None), self._shared(parts), inputs, facts=facts)

    def _parts(self, last: int, first: int = 1, highest: int = LEVELS) -> Iterator[tuple[UPath, Manifest]]:
        """The fewest partitions that hold the segments `first` to `last`, in order."""
        merged = set(names_in(self._folder / MERGED)) if highest else set()
        chosen: list[UPath] = []
        while first <= last:
            for level in range(highest, -1, -1):
                size = MERGED_AT_ONCE**level
                partition = self._merged(first, level) if level else self._segment(first)
                fits = (first - 1) % size == 0 and first + size - 1 <= last
                if fits and (not level or (partition.name in merged and _readable(partition))):
                    chosen.append(partition)
                    first += size
                    break
        yield from _described(chosen)

    def _shared(self, parts: Iterable[tuple[UPath, Manifest]]) -> SharedText:
        found = SharedText()
        for path in _fetched((part for part in parts if part[1].facts["shared"]), SHARED):
            table = pq.read_table(path)
            lengths, pieces = table["length"].to_numpy(), table["piece"].to_numpy()
            found = found.plus(SharedText({length: pieces[lengths == length] for length in (SHORT, LONG)}))
        return found

    def _last(self) -> int:
        """The number of the newest segment. A folder without a manifest is of a writer that was late or killed."""
        numbers = [int(name) for name in names_in(self._folder / SEGMENTS) if name.isdecimal()]
        for number in sorted(numbers, reverse=True):
            if read_manifest(self._segment(number)):
                return number
        return 0

    def _segment(self, number: int) -> UPath:
        return self._folder / SEGMENTS / f"{number:08d}"

    def _merged(self, first: int, level: int) -> UPath:
        return self._folder / MERGED / f"{level}-{first:08d}"
