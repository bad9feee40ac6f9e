"""Nights of real messages, as the jobs before drift leave them behind: what the tests of drift work on."""

import csv
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from mlflow import MlflowClient

import nightshift
from nightshift.data.interactions import INTERACTION_SCHEMA, INTERACTIONS, SCORES_VERSION
from nightshift.evaluation.answer_file import ANSWER_SCHEMA, ANSWERS
from nightshift.evaluation.scorers import Scorers
from nightshift.jobs import reference, snapshot
from nightshift.registry.versions import CHAMPION, DIGEST_TAG, MODEL_TAG
from nightshift.settings.application import Application, Drift, Retraining
from nightshift.settings.intake import Source, Traffic
from nightshift.settings.interval import Interval
from nightshift.storage.files import scratch
from nightshift.storage.manifest import digest_of
from nightshift.storage.partition import partition_of, publish

SAMPLES = Path(nightshift.__file__).parent / "samples" / "banking77"
QUIET = ("2026-11-02", "2026-11-03", "2026-11-04", "2026-11-05")  # days whose intents the model was trained on
NEW = ("2026-11-06", "2026-11-07", "2026-11-08", "2026-11-09")  # days with more and more new intents


def messages(day):
    """The messages of a day of the sample with their intents."""
    with (SAMPLES / f"{day}.csv").open(encoding="utf-8") as file:
        return [(row["text"], row["intent"]) for row in csv.DictReader(file)]


def application(name, base_model, **settings):
    """An application over messages that looks apart by the customer's tier."""
    defaults = {
        "base_model": str(base_model),
        "start": datetime(2026, 11, 1, tzinfo=UTC).date(),
        "end": datetime(2026, 11, 30, tzinfo=UTC).date(),
        "traffic": Traffic(segments=["tier"]),
        "drift": Drift(min_rows=100),
        "retraining": Retraining(nights=2, of_nights=3, min_new_examples=0),
    }
    source = Source(uri="rows.csv", columns={"prompt": "text", "answer": "intent"})
    return Application(name=name, sources=[source], **{**defaults, **settings})


def publish_reference(app, storage, publish_day, progress):
    """Train on the first half of some days' messages, judge on a few others, and return the spec of the reference."""
    for day in QUIET:
        rows = messages(day)
        trained = [(text, intent, "train") for text, intent in rows[::2]]
        publish_day(day, [*trained, *((text, intent, "held_out") for text, intent in rows[1::8])], application=app.name)
    made = snapshot.run(snapshot.Spec(application=app, storage=storage), progress)
    work = scratch(partition_of(storage, app.name))
    (work / "model.safetensors").write_bytes(b"weights")
    at = partition_of(storage, app.name, "models", "m")
    model = publish(at, work, kind="model", application=app.name, inputs={"planted": 1})
    evaluation, judged = _publish_evaluation(app, storage, made)
    return reference.Spec(
        application=app,
        storage=storage,
        snapshot=made.snapshot,
        digest=made.digest,
        model=str(at),
        model_digest=model.digest,
        evaluation=str(evaluation),
        evaluation_digest=judged.digest,
    )


def _publish_evaluation(app, storage, made):
    """The candidate's right answers to the held-out examples, and the base model's wrong ones."""
    from upath import UPath

    from nightshift.storage.manifest import require_manifest
    from nightshift.storage.partition import fetch

    at = UPath(made.snapshot)
    held_out = pq.read_table(fetch(at, require_manifest(at), "held_out.parquet", Path("/nonexistent"))).to_pylist()
    rows = [
        {
            "role": role,
            "digest": row["digest"],
            "prompt": row["prompt"],
            "wanted": row["answer"],
            "answer": row["answer"] if role == "candidate" else "no idea",
            "answer_tokens": 3,
            "finished": True,
            "too_long": False,
            "wanted_tokens": 3,
            "wanted_loss": 1.0,
            "exact_match": float(role == "candidate"),
            "rouge_l": float(role == "candidate"),
            "chrf": float(role == "candidate"),
        }
        for role in ("base", "candidate")
        for row in held_out[:300]
    ]
    work = scratch(partition_of(storage, app.name))
    schema = ANSWER_SCHEMA.insert(0, pa.field("role", pa.string()))
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), work / ANSWERS)
    partition = partition_of(storage, app.name, "evaluations", "e")
    return partition, publish(partition, work, kind="evaluation", application=app.name, inputs={"planted": 1})


def crown(name, digest, model="file:///gone"):
    """Make a model the champion of an application in the registry."""
    client = MlflowClient()
    client.create_registered_model(name)
    tags = {MODEL_TAG: model, DIGEST_TAG: digest}
    version = client.create_model_version(name, "file:///gone", tags=tags)
    client.set_registered_model_alias(name, CHAMPION, version.version)


def publish_interval(app, storage, day, rows, model_digest, arm=None):  # noqa: PLR0917
    """Publish scored interactions: rows of prompt, response, wanted answer (or None) and tier.

    :param arm: of which version of a split they are.
    """
    prompts, responses, wanted, tiers = zip(*rows, strict=True) if rows else ((), (), (), ())
    scores = Scorers(app, Path(app.base_model)).score(
        list(prompts), list(responses), [None] * len(rows), list(wanted), ["stop"] * len(rows)
    )
    columns = {
        "row": range(len(rows)),
        "digest": [digest_of(prompt) for prompt in prompts],
        "metadata": [[("tier", tier)] for tier in tiers],
        "prompt": prompts,
        "response": responses,
        "reference": wanted,
        "model": ["1"] * len(rows),
        "model_digest": [model_digest] * len(rows),
        "prompt_version": ["p"] * len(rows),
        "latency_ms": [1.0] * len(rows),
        "finish_reason": ["stop"] * len(rows),
        **scores,
    }
    arrays = [pa.array(list(columns.get(field.name, [None] * len(rows))), field.type) for field in INTERACTION_SCHEMA]
    start = datetime.fromisoformat(day).replace(tzinfo=UTC)
    interval = Interval(start=start, end=start + timedelta(days=1))
    place = ("arms", f"{arm.split:04d}") if arm and arm.challenger else ("interactions",)
    partition = partition_of(storage, app.name, *place, interval.key)
    work = scratch(partition)
    pq.write_table(pa.Table.from_arrays(arrays, schema=INTERACTION_SCHEMA), work / INTERACTIONS)
    manifest = publish(
        partition,
        work,
        kind="interactions",
        application=app.name,
        inputs={
            "day": day,
            "rows": digest_of(rows),
            "version": SCORES_VERSION,
            **({"arm": arm.model_dump()} if arm else {}),
        },
        interval=interval,
        rows={INTERACTIONS: len(rows)},
        facts={"model_digest": model_digest},
    )
    shutil.rmtree(work, ignore_errors=True)
    return partition, manifest


def answered(day, right=1.0):
    """The messages of a day that no model was trained on, a share of them answered rightly; every third from a gold customer."""
    rows = [row for number, row in enumerate(messages(day)) if number % 8 in {3, 5, 7}]
    return [
        (text, intent if number % 100 < 100 * right else "cannot say", intent, "gold" if number % 3 == 0 else "basic")
        for number, (text, intent) in enumerate(rows)
    ]
