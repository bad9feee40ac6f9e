"""What the tests of the data path share: one night, and ingestion of given sources into memory."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from nightshift.data.examples import EXAMPLES, QUARANTINE
from nightshift.data.ingestion import Ingestion
from nightshift.data.measures import TextMeasures
from nightshift.data.sources import raw_files
from nightshift.settings.intake import Columns, Ingest, Source
from nightshift.settings.interval import Interval

DEFAULTS = Ingest()


@pytest.fixture(scope="session")
def measures(wordless_model):
    return TextMeasures(wordless_model / "tokenizer.json")


@pytest.fixture(scope="session")
def night():
    return Interval(start=datetime(2026, 11, 2, tzinfo=UTC), end=datetime(2026, 11, 3, tzinfo=UTC))


@pytest.fixture(scope="session")
def ingest(tmp_path_factory, measures, night):
    """A function that ingests sources and returns the counts, the examples and the quarantined rows."""

    def run(*sources, interval=night, settings=DEFAULTS):
        work = tmp_path_factory.mktemp("ingest")
        target = work / "target"
        target.mkdir()
        files = [file for source in sources for file in raw_files(source, interval, work / source.name)]
        ingested = Ingestion(settings, interval, measures, work).run(files, target, lambda _rows: None)
        return SimpleNamespace(
            counts=ingested.counts,
            ingested=ingested,
            examples=pq.read_table(target / EXAMPLES).to_pylist(),
            quarantine=pq.read_table(target / QUARANTINE).to_pylist(),
        )

    return run


@pytest.fixture
def source_of(tmp_path):
    """A function that writes a file and returns a source that reads it as text, answer, id and time."""

    def write(name, content, **fields):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        columns = fields.pop("columns", Columns(prompt="text", answer="answer", id="id", timestamp="at"))
        return Source(**{"uri": str(path), "columns": columns, **fields})

    return write
