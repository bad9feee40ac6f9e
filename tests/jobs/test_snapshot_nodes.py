"""The job `snapshot` on many nodes: the training set of one, whoever dies, never comes, comes late, or is overtaken."""

import random

import pytest
from several_nodes import dies_in, left_of, node_runner, times_called
from upath import UPath

from nightshift.data.gathering import SharedGathering
from nightshift.data.split_map import SplitMap
from nightshift.errors import BadInput
from nightshift.jobs import snapshot
from nightshift.settings.application import Application
from nightshift.settings.intake import Source
from nightshift.settings.training import Training
from nightshift.storage.manifest import require_manifest

DAYS = 5
INSTRUCTION = "You are a clerk. Say in three words what this message is about: "


@pytest.fixture
def spec(publish_day, storage):
    """Days that repeat rows of each other, hold out what others train on, and share an instruction from the second day on."""
    chance = random.Random(3)
    texts = [" ".join("".join(chance.choices("abcdefghij", k=6)) for _ in range(9)) for _ in range(60)]
    asked = [(INSTRUCTION + text, "a", "held_out") for text in (texts[0], texts[50])]
    publish_day("2026-11-02", [("one", "a", "train"), ("two", None, "train"), *asked])
    for day in range(1, DAYS):
        rows = [(INSTRUCTION + text, "a", "train") for text in texts[10 * day - 9 : 10 * day + 6]]
        more = [("one", "a", "train"), (f"held out {day}", "b", "held_out"), (f"traffic {day}", None, "traffic")]
        publish_day(f"2026-11-0{2 + day}", [*rows, *more, *([(texts[0], "a", "train")] if day == 3 else [])])
    source = Source(uri="rows.jsonl", columns={"prompt": "text", "answer": "answer"})
    application = Application(name="app", sources=[source], training=Training(min_examples=2))
    return snapshot.Spec(application=application, storage=storage)


@pytest.fixture
def run_on(spec, progress, monkeypatch):
    """A function that makes the snapshot as one of the nodes, or as the only one."""
    return node_runner(lambda: snapshot.run(spec, progress), monkeypatch)


def forget(result):
    place = UPath(result.snapshot)
    place.fs.rm(place.path, recursive=True)


def content_of(result):
    manifest = require_manifest(UPath(result.snapshot), result.digest)
    return [(file.name, file.sha256, file.rows) for file in manifest.files], manifest.counts, manifest.facts


@pytest.mark.parametrize("storage", ["file", pytest.param("s3", marks=pytest.mark.slow)], indirect=True)
def test_any_number_of_nodes_makes_the_snapshot_of_one_byte_for_byte(spec, run_on, storage):
    alone = run_on(count=1)
    of_one = content_of(alone)
    assert len(SplitMap(storage, "app").state().shared)
    assert min(of_one[1][name] for name in ("train", "held_out", "traffic", "unanswered", "duplicates")) > 0
    assert of_one[1]["seen_in_training"] == 1
    for count in (2, 3):
        forget(alone)
        for index in range(1, count):
            assert run_on(index, count) is None
        assert left_of(spec, "gathered")
        together = run_on(0, count)
        assert together == alone
        assert content_of(together) == of_one
        assert not left_of(spec, "gathered")


def test_nodes_that_die_are_started_again_and_gather_only_what_they_had_not(spec, run_on, monkeypatch):
    of_one = content_of(alone := run_on(count=1))
    forget(alone)
    dies_in(monkeypatch, run_on, 1, 2, of=(SharedGathering, "_make"))
    made = times_called(monkeypatch, SharedGathering, "_make")
    assert run_on(1) is None
    assert len(made) == 1  # of the days 2 and 5
    dies_in(monkeypatch, run_on, 0, 1, of=(snapshot, "_make"))
    assert len(made) == DAYS - 1  # with those of a node that never came
    assert content_of(run_on(0)) == of_one
    assert len(made) == DAYS - 1
    assert not left_of(spec, "gathered")


def test_a_node_that_comes_late_gathers_nothing(spec, run_on, monkeypatch):
    run_on(0)
    made = times_called(monkeypatch, SharedGathering, "_make")
    assert run_on(1) is None
    assert not made
    assert not left_of(spec, "gathered")


def test_what_another_snapshot_removed_is_read_from_its_day(spec, run_on, monkeypatch):
    of_one = content_of(alone := run_on(count=1))
    forget(alone)
    joined = times_called(monkeypatch, SharedGathering, "rows", lambda number: number == 3 and joined[0][0].drop())
    assert content_of(run_on(0)) == of_one
    assert len(joined) == DAYS


def test_a_damaged_day_leaves_no_gathered_rows_on_any_node(spec, run_on, publish_day):
    partition, manifest = publish_day("2026-11-09", [("last", "a", "train")])
    run_on(1)
    (partition / manifest.files[0].path).write_bytes(b"damaged")
    for index in (2, 0):
        with pytest.raises(BadInput):
            run_on(index)
        assert not left_of(spec, "gathered")
