"""Interactions that a champion answered, with their prompts: what is drawn of logged prompts, and a watch, are tested with."""

import candidates
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from nightshift.data.interactions import INTERACTIONS
from nightshift.monitoring.due_intervals import answered_interval
from nightshift.monitoring.logged_prompts import COLUMNS
from nightshift.settings.application import Application
from nightshift.settings.shadow import Shadow
from nightshift.storage.files import scratch
from nightshift.storage.manifest import Parent
from nightshift.storage.partition import partition_of, publish

publish_day = candidates.publish_day
TRAINED_ON = "my new card has not arrived yet, when does it come?"


@pytest.fixture
def storage(tmp_path):
    return (tmp_path / "storage").as_uri()


def application(**settings):
    shadow = Shadow(**{"prompts": 30, "min_prompts": 10, **settings.pop("shadow", {})})
    return Application(
        name="app", sources=[{"uri": "rows.jsonl", "columns": {"prompt": "text"}}], shadow=shadow, **settings
    )


@pytest.fixture
def night(storage, publish_day):
    """A function that publishes prompts (text, subject) and answers to them, of which the first `right` are right."""

    def answered(day, asked, *, reference="card arrival", judge=None, inputs=None, model="c", right=None):
        rows = [(text, reference, "traffic", subject) for text, subject in asked]
        prompts, manifest = publish_day(day, [(TRAINED_ON, "x", "train", None), *rows])
        table = {
            "row": list(range(len(rows))),
            "digest": [candidates.example(text, reference)["digest"] for text, _ in asked],
            "prompt": [text for text, _ in asked],
            "reference": pa.array([reference] * len(rows), pa.string()),
            "response": ["card arrival" if right is None or n < right else "no idea" for n in range(len(rows))],
            "valid": [1.0] * len(rows),
            "judge": pa.array([judge] * len(rows), pa.float32()),
            "latency_ms": [20.0] * len(rows),
            "response_tokens": [2] * len(rows),
            "response_characters": [12] * len(rows),
        }
        folder = scratch(UPath(storage))
        pq.write_table(pa.table(table).select(COLUMNS), folder / INTERACTIONS)
        at = partition_of(storage, "app", "interactions", day)
        made = publish(
            at, folder, kind="interactions", application="app", interval=manifest.interval, counts={"rows": len(rows)},
            inputs={"response_format": "text", "judge": None, **(inputs or {})}, facts={"model_digest": model, "cost": 0.5},
            parents=[Parent(uri=str(prompts), digest=manifest.digest)],
        )  # fmt: skip
        return answered_interval(at, made)

    return answered


def asked(count, words="where is card number"):
    return [(f"{words} {n * 7919} of mine", f"user {n // 2}") for n in range(count)]
