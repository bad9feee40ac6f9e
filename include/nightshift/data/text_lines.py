"""A raw file as UTF-8 bytes: unpacked where it is compressed, decoded where it is UTF-16, and cut into bounded lines."""

from __future__ import annotations

import codecs
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from nightshift.data.quarantine import Quarantined, Reason, beginning
from nightshift.errors import BadEnvironment, BadInput

LINE_BYTES = 4_000_000  # a longer line is quarantined without being held
BUFFER_BYTES = 1 << 18
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
UTF8_MARK = codecs.BOM_UTF8
# In this order: the mark of UTF-32 begins with that of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def compression(path: Path) -> str | None:
    """Return `gzip`, `zstd` or None by the first bytes of a file, whatever its name says."""
    with path.open("rb") as file:
        magic = file.read(4)
    return next((kind for start, kind in COMPRESSIONS.items() if magic.startswith(start)), None)


def decompressed(path: Path, label: str) -> io.BufferedReader:
    """Open a file for reading, unpacked if it is compressed.

    :raises BadEnvironment: it cannot be opened.
    """
    try:
        kind = compression(path)
        if kind is None:
            return io.BufferedReader(path.open("rb", buffering=0), BUFFER_BYTES)
    except OSError as error:
        raise unreadable(label, error) from error
    return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), kind), BUFFER_BYTES)


def utf8_text(path: Path, label: str) -> io.BufferedReader:
    """Open a file of text for reading as UTF-8: unpacked, and decoded if it begins with the mark of UTF-16 or UTF-32.

    :raises BadEnvironment: it cannot be opened or read.
    :raises BadInput: it is damaged.
    """
    file = decompressed(path, label)
    begin = peek(file, label, "its first bytes")
    if begin.startswith(UTF8_MARK):
        file.read(len(UTF8_MARK))
    for mark, encoding in MARKS.items():
        if begin.startswith(mark):
            file.read(len(mark))
            return io.BufferedReader(_Recoded(file, encoding), BUFFER_BYTES)
    return file


def peek(file: io.BufferedReader, label: str, after: str) -> bytes:
    """Return some of the bytes that come next, without reading past them; nothing at the end.

    :param after: what was read before, for the error of damaged data.
    """
    try:
        return file.peek()
    except OSError as error:
        raise damaged(label, error, after) from error


def lines(file: BinaryIO, label: str, first: int = 1) -> Iterator[tuple[int, bytes | Quarantined]]:
    """Yield the lines of a file, numbered from `first`; of a line above the limit, only a record that says so.

    :raises BadEnvironment: it cannot be read.
    :raises BadInput: it is damaged or cut off.
    """
    for number in itertools.count(first):
        try:
            line = file.readline(LINE_BYTES)
            if len(line) == LINE_BYTES and not line.endswith(b"\n"):
                yield number, _overlong(number, line, file)
                continue
        except OSError as error:
            raise damaged(label, error, f"line {number - 1}") from error
        if not line:
            return
        yield number, line


def line_too_long(number: int, length: int, raw: str) -> Quarantined:
    """Return the record of a row of `length` bytes, which was skipped."""
    return Quarantined(number, Reason.LINE_TOO_LONG, f"{length:,} bytes, at most {LINE_BYTES:,} are read", raw)


def damaged(label: str, error: OSError, after: str) -> BadEnvironment | BadInput:
    """Return the error of a file that could be read only so far."""
    if error.errno:
        return unreadable(label, error)
    return BadInput(f"{label}: damaged or cut off after {after}: {error}; get it again")


def unreadable(label: str, error: OSError) -> BadEnvironment:
    """Return the error of a file that the system does not give."""
    return BadEnvironment(f"{label}: cannot be read: {error.strerror or error}")


def _overlong(number: int, line: bytes, file: BinaryIO) -> Quarantined:
    raw, length = beginning(line), len(line)
    while line and not line.endswith(b"\n"):
        line = file.readline(1 << 16)
        length += len(line)
    return line_too_long(number, length, raw)


class _Recoded(io.RawIOBase):
    """The text of a file in another encoding, as UTF-8; half of a surrogate pair stays one, for its row to be set aside."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._file = file
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            content = self._file.read(1 << 16)
            try:
                self._ready = self._decoder.decode(content, final=not content).encode("utf-8", "surrogatepass")
            except UnicodeDecodeError as error:
                raise OSError(f"not sound {self._encoding}: {error.reason}") from error
            if not content:
                break
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
