"""An application that was there before the split map: what it trained on and held out goes on as it was."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from nightshift.data.examples import EXAMPLE_SCHEMA, EXAMPLES, digest_of_messages
from nightshift.data.published_sides import catch_up, is_behind
from nightshift.data.questions import bond_keys
from nightshift.data.similarity import key_of, plain
from nightshift.data.snapshot import TRAIN
from nightshift.data.split_map import NAMES, SplitMap
from nightshift.storage.manifest import Parent
from nightshift.storage.partition import partition_of, publish

DECLINED = "Why was my card payment declined at the supermarket yesterday evening?"
ADDRESS = "How do I change the address that my account is registered to?"
RATE = "The exchange rate that you used for my last transfer seems wrong."
DAUGHTER = "Can I get a second card for my daughter who studies abroad?"


@pytest.fixture
def storage(tmp_path):
    return (tmp_path / "storage").as_uri()


@pytest.fixture
def publish_rows(storage, tmp_path):
    """A function that publishes a partition of examples with (prompt, split), or a training set, as before the map."""

    def run(key, *rows, part="examples", file=EXAMPLES, subject=None, **fields):
        folder = tmp_path / key
        folder.mkdir()
        turns = [[{"role": "user", "content": text}, {"role": "assistant", "content": "x"}] for text, _ in rows]
        full = [
            dict.fromkeys(EXAMPLE_SCHEMA.names)
            | {"digest": digest_of_messages(messages), "messages": messages, "split": split, "subject": subject}
            for messages, (_, split) in zip(turns, rows, strict=True)
        ]
        schema = pa.schema([field.with_nullable(True) for field in EXAMPLE_SCHEMA])
        pq.write_table(pa.Table.from_pylist(full, schema=schema), folder / file)
        interval = {"start": f"{key}T00:00Z", "end": f"{key}T12:00Z"} if part == "examples" else None
        partition = partition_of(storage, "app", part, key)
        publish(partition, folder, kind=part.rstrip("s") if part == "snapshots" else part, application="app",
                inputs={"key": key} | fields, interval=interval, parents=[Parent(uri="gone", digest="gone")])  # fmt: skip
        return partition

    return run


@pytest.fixture
def sides(storage):
    """A function that brings the map up to date and returns the side of each text."""

    def run(*texts):
        state = catch_up(SplitMap(storage, "app"), storage, "app")
        return [NAMES[side] for side in state.sides(np.array([key_of(plain(text)) for text in texts], dtype=np.uint64))]

    return run


def test_what_was_trained_on_any_day_is_trained_on_and_what_resembles_it_is_not_held_out(publish_rows, sides):
    publish_rows("2026-11-02", (DECLINED, "held_out"), (ADDRESS, "held_out"), (RATE, "traffic"), (DAUGHTER, "held_out"))
    publish_rows("2026-11-03", (DECLINED, "train"), (ADDRESS.replace("?", "??"), "train"))
    assert sides(DECLINED, ADDRESS, ADDRESS.replace("?", "??"), RATE, DAUGHTER) == [
        "train", "between", "train", "traffic", "held_out",
    ]  # fmt: skip


def test_a_day_that_an_earlier_version_writes_later_moves_what_was_held_out(publish_rows, sides, storage):
    publish_rows("2026-11-02", (DECLINED, "held_out"), (ADDRESS, "held_out"), (RATE, "train"))
    assert sides(DECLINED, ADDRESS, RATE) == ["held_out", "held_out", "train"]
    publish_rows("2026-11-03", (DECLINED, "train"), (ADDRESS.replace("?", "??"), "train"), (RATE, "held_out"))
    assert sides(DECLINED, ADDRESS, RATE) == ["train", "between", "train"]
    assert SplitMap(storage, "app").state().number == 2
    sides(DECLINED)
    assert SplitMap(storage, "app").state().number == 2


def test_a_training_set_counts_when_its_days_are_gone(publish_rows, sides):
    publish_rows("planted", (DECLINED, "train"), part="snapshots", file=TRAIN)
    day = publish_rows("2026-11-03", (ADDRESS, "held_out"))
    assert sides(ADDRESS) == ["held_out"]
    shutil.rmtree(UPath(day).path)
    assert sides(ADDRESS) == ["held_out"]


def test_a_training_set_that_was_made_by_the_map_is_not_settled_again(publish_rows, sides, storage):
    publish_rows("2026-11-02", (DECLINED, "train"))
    sides(DECLINED)
    publish_rows("known", (DECLINED, "train"), part="snapshots", file=TRAIN, split_map=1)
    assert sides(DECLINED) == ["train"]
    assert SplitMap(storage, "app").state().number == 1
    publish_rows("of-a-lost-map", (RATE, "train"), part="snapshots", file=TRAIN, split_map=7)
    assert sides(RATE) == ["train"]


def test_subjects_of_a_map_that_is_made_anew_are_on_the_sides_of_their_rows(publish_rows, sides, storage):
    publish_rows("2026-11-02", (DECLINED, "train"), subject="ann")
    publish_rows("2026-11-03", (ADDRESS, "held_out"), subject="ben")
    publish_rows("2026-11-04", (RATE, "held_out"), subject="ann")  # before subjects were mapped
    sides(DECLINED)
    keys = np.array(bond_keys([("ann", None), ("ben", None)])[::2], dtype=np.uint64)
    assert [NAMES[side] for side in SplitMap(storage, "app").state().sides(keys)] == ["train", "held_out"]


def test_a_map_whose_newest_segment_is_lost_is_behind_and_catches_up(publish_rows, sides, storage, caplog):
    publish_rows("2026-11-02", (DECLINED, "train"))
    split_map = SplitMap(storage, "app")
    assert is_behind(split_map, storage, "app")
    sides(DECLINED)
    publish_rows("2026-11-03", (ADDRESS, "held_out"))
    sides(ADDRESS)
    assert not is_behind(split_map, storage, "app")
    shutil.rmtree(UPath(f"{storage}/app/similarity/segments/00000002").path)
    assert is_behind(split_map, storage, "app")
    assert "has no segment of this interval" in caplog.text
    assert sides(ADDRESS) == ["held_out"]
