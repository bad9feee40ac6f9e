"""Feedback that tests let people give, and nights that it is about."""

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from nightshift.data.examples import digest_of_messages
from nightshift.data.feedback import FEEDBACK
from nightshift.data.interactions import INTERACTION_SCHEMA, INTERACTIONS
from nightshift.jobs.feedback import Spec
from nightshift.settings.application import Application
from nightshift.settings.interval import Interval
from nightshift.storage.files import scratch
from nightshift.storage.manifest import Parent, require_manifest
from nightshift.storage.partition import fetch, partition_of, publish

START = datetime(2026, 11, 1, tzinfo=UTC)
COLUMNS = {
    "id": "message", "prompt": "asked", "subject": "user", "timestamp": "at", "thumb": "vote", "rating": "stars",
    "answer": "better",
}  # fmt: skip
ASKED = "Where is my card?"


def interval(day):
    return Interval(start=START + timedelta(days=day - 1), end=START + timedelta(days=day))


@pytest.fixture
def answered(storage):
    """A function that publishes a night of interactions with some ids, all of the same prompt."""

    def publish_interval(day, ids, model="m"):
        empty = {
            field.name: 0 if pa.types.is_integer(field.type) else ""
            for field in INTERACTION_SCHEMA
            if not field.nullable
        }
        asked = {
            "prompt": ASKED,
            "digest": digest_of_messages([{"role": "user", "content": ASKED}]),
            "model_digest": model,
        }
        rows = [{**empty, "metadata": {}, **asked, "row": row, "id": name} for row, name in enumerate(ids)]
        folder = scratch(UPath(storage))
        pq.write_table(pa.Table.from_pylist(rows, schema=INTERACTION_SCHEMA), folder / INTERACTIONS)
        at = partition_of(storage, "bank", "interactions", interval(day).key)
        return publish(
            at, folder, kind="interactions", application="bank", interval=interval(day),
            inputs={"ids": ids, "model_digest": model}, facts={"model_digest": model},
            parents=[Parent(uri="traffic/gone", digest="d")],
        )  # fmt: skip

    return publish_interval


@pytest.fixture
def said(tmp_path, storage, wordless_model, monkeypatch):
    """A function that returns the spec of day 3, in which people said some things."""
    monkeypatch.setenv("NIGHTSHIFT_ID_KEY", "k" * 32)

    def spec(rows, columns=COLUMNS):
        names = sorted({*columns.values()})
        (tmp_path / "said.jsonl").write_text("".join(json.dumps(dict.fromkeys(names) | row) + "\n" for row in rows))
        source = {"uri": str(tmp_path / "said.jsonl"), "columns": columns}
        traffic = {"sources": [{"uri": "asked.jsonl", "columns": {"prompt": "text", "id": "message"}}]}
        application = Application(
            name="bank", base_model=str(wordless_model), sources=[{"uri": "rows.jsonl", "columns": {"prompt": "text"}}],
            traffic=traffic, feedback={"sources": [source]},
        )  # fmt: skip
        return Spec(application=application, storage=storage, interval=interval(3))

    return spec


def rows_of(result, tmp_path, name=FEEDBACK):
    partition = UPath(result.feedback)
    return pq.read_table(
        fetch(partition, require_manifest(partition, result.digest), name, tmp_path / "got")
    ).to_pylist()
