"""An application whose users ask in production and whose people correct answers, with what becomes of their words."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from nightshift.data.acceptance import record_acceptance
from nightshift.data.examples import EXAMPLES
from nightshift.data.interactions import INTERACTION_SCHEMA, INTERACTIONS
from nightshift.jobs import feedback, ingest, snapshot
from nightshift.settings.application import Application
from nightshift.storage.files import scratch
from nightshift.storage.manifest import Parent, require_manifest
from nightshift.storage.partition import fetch, partition_of, publish
from nightshift.verdict import Verdict

KEY = "k" * 32
QUESTIONS = [
    "Why was my card payment declined at the supermarket yesterday evening?",
    "How do I change the address that my account is registered to?",
    "The exchange rate that you used for my last transfer seems wrong.",
    "Can I get a second card for my daughter who studies abroad?",
    "A direct debit appeared in my statement that I never agreed to.",
    "What documents do you need before my identity is verified?",
    "My phone was stolen this morning, please block everything at once!",
    "Is there a fee when I withdraw cash in Japan next month?",
]
COLUMNS = {"id": "message", "subject": "user", "answer": "better", "thumb": "vote"}


class Desk:
    """An application whose users ask in production, with what becomes of their words."""

    def __init__(self, folder, storage, model, progress, **changes):
        self.folder, self.storage, self._progress = folder, storage, progress
        asked = {"prompt": "text", "id": "message", "subject": "user", **changes.pop("asked", {})}
        given = {"uri": str(folder / "said.jsonl"), "columns": COLUMNS} | changes.pop("source", {})
        self.application = Application(
            name="branch", base_model=str(model), training={"min_examples": 1, "recipe": changes.pop("recipe", "sft")},
            sources=[{"uri": str(folder / "{start:%Y-%m-%d}.jsonl"), "columns": {"prompt": "text", "answer": "answer"}}],
            traffic={"sources": [{"name": "log", "uri": str(folder / "log.jsonl"), "columns": asked}]},
            ingest={"splits": {"train": 0.5, "held_out": 0.5}},
            feedback={"sources": [given], "corrections": True} | changes,
        )  # fmt: skip

    def ingested(self, day, rows, part="examples"):
        name = "log" if part == "traffic" else day
        (self.folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        spec = ingest.Spec(application=self.application, storage=self.storage, interval={"day": day}, part=part)
        result = ingest.run(spec, self._progress)
        if part == "examples":
            record_acceptance(UPath(result.examples), result.digest, Verdict.PASS, [])
        return result

    def answered(self, day, questions=QUESTIONS, scores=(), metadata=None):
        """A night whose traffic is these questions, of a user each, in messages m0, m1, …; scores are by row."""
        rows = [
            {"text": text, "message": f"m{n}", "user": f"user{n}", "tier": "gold"} for n, text in enumerate(questions)
        ]
        traffic = self.ingested(day, rows, "traffic")
        empty = {one.name: 0 if pa.types.is_integer(one.type) else "" for one in INTERACTION_SCHEMA if not one.nullable}
        night = [
            {
                **empty,
                "metadata": {},
                "row": n,
                "model": "7",
                **{name: row[name] for name in ("id", "digest", "prompt")},
                **dict(enumerate(scores)).get(n, {}),
            }
            for n, row in enumerate(self.rows(UPath(traffic.examples), EXAMPLES))
        ]
        work = scratch(UPath(self.storage))
        pq.write_table(pa.Table.from_pylist(night, schema=INTERACTION_SCHEMA), work / INTERACTIONS)
        publish(
            partition_of(self.storage, "branch", "interactions", day), work, kind="interactions", application="branch",
            interval=self.application.interval_of(day), inputs={"day": day, "traffic": traffic.digest},
            parents=[Parent(uri=traffic.examples, digest=traffic.digest)],
        )  # fmt: skip

    def said(self, day, rows):
        (self.folder / "said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        spec = feedback.Spec(application=self.application, storage=self.storage, interval={"day": day})
        return feedback.run(spec, self._progress)

    def corrections(self, day):
        return partition_of(self.storage, "branch", "corrections", day)

    def taken(self, **asked):
        spec = snapshot.Spec(application=self.application, storage=self.storage, **asked)
        return snapshot.run(spec, self._progress)

    def snapshot(self, **asked):
        return UPath(self.taken(**asked).snapshot)

    def rows(self, partition, name):
        manifest = require_manifest(partition)
        return pq.read_table(fetch(partition, manifest, name, scratch(UPath(self.storage)))).to_pylist(
            maps_as_pydicts="strict"
        )


@pytest.fixture
def desk(tmp_path, storage, wordless_model, progress, monkeypatch):
    """A function that makes an application; further settings are those of `feedback`."""
    monkeypatch.setenv("NIGHTSHIFT_ID_KEY", KEY)
    return lambda **changes: Desk(tmp_path, storage, wordless_model, progress, **changes)
