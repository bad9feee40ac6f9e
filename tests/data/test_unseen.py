"""Which rows no model was trained on: found by question, by conversation, and never where nobody knows."""

from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.data.dedup import KEPT
from nightshift.data.examples import EXAMPLE_SCHEMA, digest_of_messages
from nightshift.data.questions import Questions
from nightshift.data.snapshot import TRAIN as TRAINING_SET
from nightshift.data.split_map import HELD_OUT, TRAIN, SplitMap
from nightshift.data.unseen import seen_in_training
from nightshift.settings.intake import Splits
from nightshift.storage.manifest import Parent
from nightshift.storage.partition import partition_of, publish


def test_rows_that_repeat_or_resemble_a_question_of_the_training_side_do_not_count(tmp_path):
    asked = [
        "why was my card payment declined at the supermarket yesterday evening?",
        "how do i change the address that my account is registered to?",
    ]
    storage = (tmp_path / "storage").as_uri()
    questions = Questions(tmp_path / "questions.parquet", Splits())
    for text, side in zip(asked, (TRAIN, HELD_OUT), strict=True):
        questions.add([sha256(text.encode()).hexdigest()], [text], [""], wanted=side)
    questions.close()
    kept = np.full(2, KEPT, dtype=np.uint8)
    questions.settle(SplitMap(storage, "app"), ["x"], kept, 2.0, work=tmp_path, already=True)
    prompts = [asked[0].capitalize(), asked[0].replace("?", "!!"), asked[1], "where is the nearest branch of the bank?"]
    rows = pa.table({"digest": ["a", "b", "c", "d"], "prompt": prompts})
    assert seen_in_training(rows, storage, "app") == {"a", "b"}


@pytest.fixture
def publish_training_set(tmp_path):
    """A function that publishes conversations as a training set, made before there was a split map."""

    def run(*conversations):
        storage = (tmp_path / "storage").as_uri()
        (tmp_path / "set").mkdir()
        rows = {"digest": list(map(digest_of_messages, conversations)), "messages": conversations}
        pq.write_table(
            pa.table(rows, schema=pa.schema([EXAMPLE_SCHEMA.field(name) for name in rows])),
            tmp_path / "set" / TRAINING_SET,
        )
        publish(
            partition_of(storage, "app", "snapshots", "x"), tmp_path / "set", kind="snapshot", application="app", inputs={},
            parents=[Parent(uri="2026-11-02", digest="gone")],
        )  # fmt: skip
        return storage

    return run


def said(*texts):
    return [{"role": ("user", "assistant")[turn % 2], "content": text} for turn, text in enumerate(texts)]


def test_before_the_first_ingest_with_a_split_map_it_is_made_of_what_is_published(publish_training_set):
    storage = publish_training_set(said("how do i change the address that my account is registered to?", "in the app"))
    prompts = ["How do I change the address that my account is registered to?!", "where is the nearest branch?"]
    rows = pa.table({"digest": ["a", "b"], "prompt": prompts})
    assert seen_in_training(rows, storage, "app") == {"a"}


def test_a_conversation_of_several_turns_that_was_trained_on_does_not_count(publish_training_set):
    trained = said("my card does not work", "where did you use it?", "in a shop in the town", "it reached its limit")
    storage = publish_training_set(trained)
    rows = pa.table({"digest": [digest_of_messages(trained), "b"], "prompt": ["in a shop in the town", "another"]})
    assert seen_in_training(rows, storage, "app") == {digest_of_messages(trained)}


def test_where_nothing_tells_what_was_trained_on_every_row_may_have_been(tmp_path):
    rows = pa.table({"digest": ["a", "b"], "prompt": ["where is my card?", "where is the nearest branch?"]})
    assert seen_in_training(rows, (tmp_path / "storage").as_uri(), "app") == {"a", "b"}
