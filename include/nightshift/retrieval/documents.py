"""Reads the documents of an application, one at a time: rows of files or queries, or whole text files."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from nightshift.data.normalise import clean
from nightshift.data.quarantine import Quarantined, Row, Unusable
from nightshift.data.source_files import files_at
from nightshift.data.sources import raw_files
from nightshift.data.words import WORD
from nightshift.errors import BadEnvironment, BadInput
from nightshift.settings.interval import Interval
from nightshift.settings.retrieval import DocumentColumns, Documents
from nightshift.storage.files import is_local

WHOLE_FILES = {".txt", ".md", ".markdown", ".html", ".htm", ".pdf"}
MOST_BYTES = 10_000_000  # of a whole file, which is held in memory
UNSEEN = {"script", "style", "template", "noscript"}
# Documents have no interval, but reading a source needs one; no URI of documents uses it.
ANY_INTERVAL = Interval(
    start=datetime(2000, 1, 1, tzinfo=UTC), end=datetime(2000, 1, 1, tzinfo=UTC) + timedelta(days=1)
)


@dataclass(frozen=True, slots=True)
class Document:
    """A document to index."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A rejected row or file: its place and the reason."""

    place: str
    reason: str


class _NoText(Exception):
    """Raised with the reason why a file has no text."""


def read_documents(sources: Sequence[Documents], folder: Path) -> Iterator[Document | Refused]:
    """Yield the documents of the sources; copies of remote files go to `folder`.

    :raises NoData: a source has no file.
    :raises BadInput: a file cannot be used as a whole.
    :raises BadEnvironment: storage cannot be read.
    """
    for documents in sources:
        if documents.columns is None:
            yield from _files(documents)
        else:
            yield from _rows(documents, documents.columns, folder / documents.name)


def _rows(documents: Documents, columns: DocumentColumns, folder: Path) -> Iterator[Document | Refused]:
    for file in raw_files(documents.source, ANY_INTERVAL, folder):
        for piece in file.pieces():
            for row in piece.rows():
                place = f"{file.name}:{row.number}"
                yield (
                    Refused(place, row.reason.value)
                    if isinstance(row, Quarantined)
                    else _of_row(row, columns, documents.name, place)
                )


def _of_row(row: Row, columns: DocumentColumns, source: str, place: str) -> Document | Refused:
    text, title = _at(row.values, columns.text), _at(row.values, columns.title)
    name = _at(row.values, columns.id)
    if text is not None and not isinstance(text, str):
        return Refused(place, "not_text")
    if columns.id and (name is None or not str(name).strip()):
        return Refused(place, "missing_id")
    return _document(
        source, None if name is None else str(name), "" if title is None else str(title), text or "", place
    )


def _at(values: Any, name: str | None) -> Any:
    if name is None or not isinstance(values, dict):
        return None
    outer, _, rest = name.partition(".")
    return values[name] if name in values else _at(values.get(outer), rest or None)


def _document(source: str, name: str | None, title: str, text: str, place: str) -> Document | Refused:
    try:
        text, title, name = clean(text), clean(title), clean(name or "")
    except Unusable as error:
        return Refused(place, error.reason.value)
    if not WORD.search(text):
        return Refused(place, "empty")
    return Document(f"{source}/{name or hashlib.sha256(text.encode()).hexdigest()[:16]}", title, text)


def _files(documents: Documents) -> Iterator[Document | Refused]:
    uri = documents.uri or ""
    target, paths = files_at(documents.source, uri)
    pattern = target.path if is_local(target) else uri
    fixed = len(pattern.partition("*")[0].rpartition("/")[0]) + 1
    for path in paths:
        label = path.path if is_local(path) else str(path)
        name = PurePosixPath(label[fixed:].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
        place = f"{documents.name}/{name}"
        kind = name.suffix.lower()
        if kind not in WHOLE_FILES:
            raise BadInput(
                f"{place}: not one of {', '.join(sorted(WHOLE_FILES))}; for files of rows give the source `columns`"
            )
        try:
            if path.stat().st_size > MOST_BYTES:
                yield Refused(place, "too_long")
                continue
            content = path.read_bytes()
        except OSError as error:
            raise BadEnvironment(f"{place}: cannot be read: {error.strerror or error}") from error
        try:
            title, text = _of_pdf(content) if kind == ".pdf" else _of_text(content, html=kind in {".html", ".htm"})
        except _NoText as error:
            yield Refused(place, str(error))
        else:
            yield _document(documents.name, str(name), title or name.stem, text, place)


def _of_text(content: bytes, *, html: bool) -> tuple[str, str]:
    """Title and text."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _NoText("not_utf8") from error
    if not html:
        return "", text
    from lxml.etree import HTMLParser

    parser = HTMLParser(target=_Page(), huge_tree=True, no_network=True)
    parser.feed(text)
    title, text = parser.close()
    return " ".join(title.split()), text


def _of_pdf(content: bytes) -> tuple[str, str]:
    """Title and text. Scanned pages have no text."""
    from pypdf import PdfReader
    from pypdf.errors import FileNotDecryptedError

    try:
        file = PdfReader(io.BytesIO(content))
        title = file.metadata.title if file.metadata else None
        return str(title or ""), "\n".join(page.extract_text() for page in file.pages)
    except FileNotDecryptedError as error:
        raise _NoText("encrypted") from error
    except Exception as error:  # the reader raises many kinds of errors for damaged files
        raise _NoText("not_pdf") from error


class _Page:
    """The title and visible text of a page, from a parser's events. Every element ends a word."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.title: list[str] = []
        self._within: str | None = None

    def start(self, tag: str, _attributes: Mapping[str, str]) -> None:
        if self._within is None and tag in {"title", *UNSEEN}:
            self._within = tag
        self.text.append("\n" if tag in {"p", "br", "li", "tr", "div", "h1", "h2", "h3", "h4"} else " ")

    def end(self, tag: str) -> None:
        if tag == self._within:
            self._within = None

    def data(self, data: str) -> None:
        if self._within == "title":
            self.title.append(data)
        elif self._within is None:
            self.text.append(data)

    def close(self) -> tuple[str, str]:
        return "".join(self.title), "".join(self.text)
