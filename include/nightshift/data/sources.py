"""Fetches the files of a source in an application's file, each with its digest.

Remote files are copied to scratch and the rows of a query are kept there as JSON lines, so that what was digested
is exactly what is then read.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, tzinfo
from pathlib import Path

from upath import UPath

from nightshift.data.file_kinds import seems
from nightshift.data.json_rows import read_json
from nightshift.data.pieces import Piece, Rows, in_pieces
from nightshift.data.readers import bytes_of, read_csv, read_parquet, require_columns
from nightshift.data.source_files import files_at, uri_of
from nightshift.data.text_lines import compression, decompressed
from nightshift.errors import BadEnvironment, BadInput
from nightshift.settings.intake import Source
from nightshift.settings.interval import Interval
from nightshift.storage.files import is_local, sha256_of

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
DELIMITERS = {"csv": ",", "tsv": "\t"}
COMPRESSIONS = {".gz", ".zst", ".zstd"}


@dataclass(frozen=True, slots=True)
class RawFile:
    """Raw rows in a local file. `label` is what users know it by, `inputs` what it adds to a partition's inputs."""

    source: Source
    label: str
    path: Path
    format: str
    bytes: int
    state: tuple[int, int]
    inputs: dict[str, str]

    @property
    def name(self) -> str:
        """The `source` column of its rows: `<source>/<file>`, or the source's name for a query."""
        return "/".join([self.source.name, *([self.inputs["file"]] if "file" in self.inputs else [])])

    def pieces(self) -> Iterator[Piece]:
        """Yield the raw rows, streaming. The same file always has the same pieces.

        :raises BadInput: the file as a whole cannot be used.
        :raises BadEnvironment: it cannot be read, or changed after it was digested.
        """
        columns = mapped(self.source)
        try:
            if self.format in DELIMITERS:
                rows = read_csv(self.path, self.label, columns, DELIMITERS[self.format])
                yield from map(Rows, in_pieces(rows, bytes_of))
            elif self.format == "parquet":
                yield from read_parquet(self.path, self.label, columns, self.source.optional)
            else:
                yield from read_json(self.path, self.label)
        except BadInput as error:
            kind = seems(self.path, self.source, self.format)
            if kind is None:
                raise
            raise BadInput(f"{error}. The file seems to be {kind}") from error
        if _state(self.path) != self.state:
            raise BadEnvironment(f"{self.label}: changed while it was read; the next try takes the new content")


def mapped(source: Source) -> list[str]:
    """Return the columns that a source's rows must have, each once: those that its mapping names."""
    fields = source.columns.model_dump().values()
    names = [*(name for name in fields if isinstance(name, str)), *source.columns.metadata]
    return list(dict.fromkeys(name for name in names if name not in source.optional))


def raw_files(source: Source, interval: Interval, folder: Path, zone: tzinfo = UTC) -> list[RawFile]:
    """Return the files of a source for an interval, in order of their names; copies go to `folder`.

    :param zone: time zone of the interval in names of files; a query always gets UTC.
    :raises NoData: there is no such file.
    :raises BadInput: a name leads elsewhere, is no file, or tells no format; a query is wrong.
    :raises BadEnvironment: storage or database cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if source.query is not None:
        return [_query(source, interval, folder)]
    uri = uri_of(source, interval, zone)
    target, paths = files_at(source, uri)
    # Below the folders that the pattern names, the path tells two files of one name apart.
    pattern = target.path if is_local(target) else uri
    fixed = len(pattern.partition("*")[0].rpartition("/")[0]) + 1 if "*" in uri else 0
    files = []
    for number, path in enumerate(paths):
        # A name that is not UTF-8 is shown with its bytes: `caf\xe9.csv`.
        label = (path.path if is_local(path) else str(path)).encode("utf-8", "surrogateescape")
        label = label.decode("utf-8", "backslashreplace")
        name = label[fixed:] if fixed else label.rpartition("/")[2]
        files.append(_raw_file(source, path, label, name, folder / f"{number:06}"))
    return files


def _raw_file(source: Source, path: UPath, label: str, name: str, copy: Path) -> RawFile:
    kind = source.format or _format(label)
    local = Path(path.path) if is_local(path) else copy
    if local is not copy and local.is_dir():
        raise BadInput(f"{label}: is a folder; for all files in it write {label}/*")
    if local is not copy and not local.is_file():
        raise BadInput(f"{label}: is not an ordinary file")
    try:
        if local is copy:
            path.fs.get_file(path.path, str(local))
        elif label != path.path:
            # Arrow opens no name that is not UTF-8.
            copy.symlink_to(local.absolute())
            local = copy
        state = _state(local)
        digest = sha256_of(local)
        if kind == "parquet":
            local = _unpacked(local, label, copy.with_suffix(".parquet"))
            state = _state(local)
    except OSError as error:
        raise BadEnvironment(f"{label}: cannot be read: {error.strerror or error}") from error
    inputs = {"source": source.name, "file": name, "sha256": digest}
    return RawFile(source, label, local, kind, state[0], state, inputs)


def _format(label: str) -> str:
    suffixes = Path(label).suffixes
    while suffixes and suffixes[-1].lower() in COMPRESSIONS:
        suffixes.pop()
    kind = FORMATS.get(suffixes[-1].lower()) if suffixes else None
    if kind is None:
        raise BadInput(
            f"{label}: its name does not tell the format; give the source `format:` (jsonl, json, csv, tsv or parquet), or the "
            f"file one of the endings {', '.join(FORMATS)}"
        )
    return kind


def _unpacked(path: Path, label: str, target: Path) -> Path:
    """Parquet is read from its end, so a compressed file of it is unpacked first."""
    if compression(path) is None:
        return path
    try:
        with decompressed(path, label) as packed, target.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
    except OSError as error:
        if error.errno:
            raise
        raise BadInput(f"{label}: damaged or cut off: {error}; get it again") from error
    return target


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _query(source: Source, interval: Interval, folder: Path) -> RawFile:
    from nightshift.data.database import write_query

    label, path = f"query of source {source.name!r}", folder / "query.jsonl"
    digest, names = write_query(source.connection or "", source.query or "", interval, label, path)
    require_columns(label, mapped(source), names)
    state = _state(path)
    inputs = {"source": source.name, "query": source.query or "", "sha256": digest}
    return RawFile(source, label, path, "jsonl", state[0], state, inputs)
