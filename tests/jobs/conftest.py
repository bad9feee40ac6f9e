"""What the tests of jobs share: a progress that leaves stdout alone, and days of examples to work on."""

import os
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from nightshift.config import Interval
from nightshift.data.acceptance import record_acceptance
from nightshift.data.examples import EXAMPLE_SCHEMA, EXAMPLES, RowWriter, digest_of_messages
from nightshift.data.partition import partition_of, publish
from nightshift.data.storage import scratch
from nightshift.jobs.progress import Progress
from nightshift.verdict import Verdict


@pytest.fixture
def progress():
    """A job's progress; it takes over stdout, which is given back after the test."""
    kept = os.dup(1)
    yield Progress("test")
    os.dup2(kept, 1)
    os.close(kept)


@pytest.fixture
def storage(tmp_path):
    return (tmp_path / "storage").as_uri()


def example(prompt, answer="an answer", split="train", row=1):
    """One row of examples.parquet."""
    messages = [{"role": "user", "content": prompt}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    digest = digest_of_messages(messages)
    return {
        "digest": digest,
        "messages": messages,
        "prompt": prompt,
        "answer": answer,
        "source": "planted",
        "source_row": row,
        "id": None,
        "timestamp": None,
        "metadata": [],
        "language": "en",
        "prompt_characters": len(prompt),
        "prompt_tokens": len(prompt.split()),
        "answer_tokens": len((answer or "").split()),
        "pii": [],
        "group": digest,
        "split": split,
    }


@pytest.fixture
def publish_day(storage):
    """A function that publishes rows (prompt, answer, split) as a day of examples, judged by `verdict` unless None."""

    def publish_rows(day, rows, *, application="app", verdict=Verdict.PASS, reasons=(), version=1):
        start = datetime.fromisoformat(day).replace(tzinfo=UTC)
        interval = Interval(start=start, end=start + timedelta(days=1))
        partition = partition_of(storage, application, "examples", interval.key)
        folder = scratch(partition)
        with RowWriter(folder / EXAMPLES, EXAMPLE_SCHEMA) as writer:
            writer.write([example(*row, row=number) for number, row in enumerate(rows, 1)])
        manifest = publish(
            partition,
            folder,
            kind="examples",
            application=application,
            inputs={"day": day, "version": version},
            interval=interval,
            rows={EXAMPLES: len(rows)},
        )
        shutil.rmtree(folder, ignore_errors=True)
        if verdict is not None:
            record_acceptance(partition, manifest.digest, verdict, reasons)
        return partition, manifest

    return publish_rows
