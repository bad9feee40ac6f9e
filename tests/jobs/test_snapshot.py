"""The snapshot job: what a training set is made from, and that nothing is judged on what was trained on."""

import random
import shutil
import signal
import subprocess
import sys
from datetime import date

import candidates
import desk
import pyarrow.parquet as pq
import pytest
from upath import UPath

from nightshift.data.similarity import question_of, shingles
from nightshift.data.snapshot import published_snapshots
from nightshift.errors import BadInput
from nightshift.jobs.snapshot import Spec, run
from nightshift.settings.application import Application
from nightshift.settings.intake import Source
from nightshift.settings.training import Training
from nightshift.storage.manifest import Parent, require_manifest
from nightshift.storage.partition import fetch, partition_of, publish
from nightshift.verdict import Verdict

APPLICATION = Application(
    name="app",
    sources=[Source(uri="rows.jsonl", columns={"prompt": "text", "answer": "answer"})],
    training=Training(min_examples=2),
)


@pytest.fixture
def snapshot(storage, progress):
    """A function that runs the job and returns its result."""

    def run_snapshot(**fields):
        return run(Spec(application=APPLICATION, storage=storage, **fields), progress)

    return run_snapshot


def rows_of(result, name, tmp_path):
    partition = UPath(result.snapshot)
    return pq.read_table(fetch(partition, require_manifest(partition, result.digest), name, tmp_path)).to_pylist()


def prompts(result, name, tmp_path):
    return [row["prompt"] for row in rows_of(result, name, tmp_path)]


QUESTIONS = desk.QUESTIONS[:6]


def test_a_model_that_was_trained_before_keeps_its_snapshot_when_newer_days_came(
    publish_day, snapshot, storage, tmp_path
):
    rows = [(text, "a", "train") for text in QUESTIONS[:4]] + [(QUESTIONS[4], "a", "held_out")]
    publish_day("2026-11-02", rows)
    first = snapshot()
    (tmp_path / "output").mkdir()
    model = partition_of(storage, "app", "models", "m1")
    parents = [Parent(uri=first.snapshot, digest=first.digest)]
    publish(model, tmp_path / "output", kind="model", application="app", inputs={}, counts={}, parents=parents)
    publish_day("2026-11-03", [("A question of the next day, which the model did not see", "b", "train")])

    again = snapshot(of_model=str(model))

    assert (again.snapshot, again.digest, again.days) == (first.snapshot, first.digest, ["2026-11-02"])
    assert snapshot().digest != first.digest
    assert snapshot(of_model=f"{model}-gone").digest == snapshot().digest


def test_nothing_is_judged_on_a_row_that_any_day_trained_on(publish_day, snapshot, tmp_path):
    declined, address, rate, second_card, debit, documents = QUESTIONS
    # Long before the window of the snapshot, the same texts were training rows …
    publish_day("2026-09-01", [(declined, "a", "train"), ("filler one", "x", "train")])
    # … and within the window other days train on what this day holds out: word for word, in other case, nearly.
    publish_day("2026-11-02", [(text, "a", "held_out") for text in QUESTIONS])
    publish_day("2026-11-03", [(address.upper(), "a", "train"), ("filler two", "x", "train")])
    publish_day(
        "2026-11-04", [(rate.replace("wrong.", "wrong!!"), "another answer", "train"), ("filler", "x", "train")]
    )
    publish_day("2026-11-05", [(second_card, "a", "traffic"), ("short", "x", "train"), (debit, None, "train")])

    result = snapshot(window_days=7)

    assert result.verdict is Verdict.PASS
    assert result.days == ["2026-11-02", "2026-11-03", "2026-11-04", "2026-11-05"]
    assert set(prompts(result, "held_out.parquet", tmp_path)) == {second_card, documents}
    trained = rows_of(result, "train.parquet", tmp_path)
    for row in rows_of(result, "held_out.parquet", tmp_path):
        for seen in trained:
            one, other = shingles(question_of(row["messages"])), shingles(question_of(seen["messages"]))
            assert len(one & other) / len(one | other) < 0.8
    counts = require_manifest(UPath(result.snapshot)).counts
    assert counts["seen_in_training"] == 4
    assert counts["rows"] == sum(value for name, value in counts.items() if name != "rows")


def test_rows_that_only_an_earlier_snapshot_still_knows_are_not_judged_on(publish_day, snapshot, tmp_path):
    publish_day("2026-11-02", [(QUESTIONS[0], "a", "train"), (QUESTIONS[1], "a", "train")])
    snapshot()
    # The day is written again under other shares: what was trained on is held out now.
    publish_day("2026-11-02", [(q, "a", "held_out") for q in QUESTIONS[:3]] + [("x", "y", "train")] * 2, version=2)
    publish_day("2026-11-03", [("p", "y", "train")])
    assert prompts(snapshot(), "held_out.parquet", tmp_path) == [QUESTIONS[2]]


def test_a_later_day_that_was_trained_on_is_remembered_when_an_earlier_day_is_judged(publish_day, snapshot, tmp_path):
    early = [("early one", "a", "train"), ("early two", "a", "train")]
    publish_day("2026-11-02", [*early, (QUESTIONS[0], "a", "held_out"), (QUESTIONS[1], "a", "held_out")])
    publish_day("2026-11-09", [(QUESTIONS[0], "a", "train")])
    snapshot()
    assert prompts(snapshot(until=date(2026, 11, 2)), "held_out.parquet", tmp_path) == [QUESTIONS[1]]


def test_a_row_from_before_its_instruction_was_known_as_one_is_not_judged_on_when_its_question_was_trained_on(
    publish_day, snapshot, tmp_path
):
    declined, _, rate, *_ = QUESTIONS
    instruction = "You are a clerk. Say in three words what this message is about: "
    publish_day(
        "2026-11-02", [("one", "a", "train"), *((instruction + text, "a", "held_out") for text in (declined, rate))]
    )
    assert snapshot(min_examples=1).held_out_examples == 2
    # Only on the next day so many messages come under it that it counts as shared text.
    chance = random.Random(3)
    texts = [" ".join("".join(chance.choices("abcdefghij", k=6)) for _ in range(9)) for _ in range(15)]
    publish_day("2026-11-03", [(declined, "a", "train"), *((instruction + text, "a", "train") for text in texts)])
    assert prompts(snapshot(), "held_out.parquet", tmp_path) == [instruction + rate]


def test_nothing_is_judged_on_of_a_subject_whose_rows_were_trained_on(publish_day, snapshot, tmp_path):
    rows = [(QUESTIONS[0], "a", "held_out", "ann"), (QUESTIONS[1], "a", "held_out", "ben"), ("filler", "x", "train")]
    publish_day("2026-11-02", rows)
    publish_day("2026-11-03", [(QUESTIONS[2], "a", "train", "ann"), (QUESTIONS[3], "a", "held_out", None)])
    assert prompts(snapshot(), "held_out.parquet", tmp_path) == sorted(
        (QUESTIONS[1], QUESTIONS[3]), key=lambda text: candidates.example(text, "a")["digest"]
    )


def test_rows_without_an_answer_and_repeated_rows_are_not_trained_on(publish_day, snapshot, tmp_path):
    publish_day("2026-11-02", [(QUESTIONS[0], "a", "train"), (QUESTIONS[1], None, "train")])
    publish_day(
        "2026-11-03", [(QUESTIONS[0], "a", "train"), (QUESTIONS[2], "b", "train"), (QUESTIONS[3], "c", "held_out")]
    )
    result = snapshot()
    assert prompts(result, "train.parquet", tmp_path) == [QUESTIONS[0], QUESTIONS[2]]
    counts = require_manifest(UPath(result.snapshot)).counts
    assert (counts["unanswered"], counts["duplicates"]) == (1, 1)


def test_only_what_validation_accepted_is_used_and_the_rest_is_named(publish_day, snapshot):
    row = [("only", "a", "train"), ("two", "b", "train")]
    publish_day("2026-11-02", row, verdict=Verdict.WARN)
    publish_day("2026-11-03", row, verdict=Verdict.FAIL, reasons=["answered_share 0.2 is below 0.99"])
    publish_day("2026-11-04", row, verdict=None)
    publish_day("2026-11-05", row)
    publish_day("2026-11-05", row, verdict=None, version=2)
    result = snapshot()
    assert result.days == ["2026-11-02"]
    assert "2026-11-03 left out: its validation said FAIL: answered_share 0.2 is below 0.99" in result.reason
    assert "2026-11-04 left out: it was not validated" in result.reason


def test_too_little_data_is_a_verdict_of_its_own(publish_day, snapshot):
    nothing = snapshot()
    assert nothing.verdict is Verdict.INSUFFICIENT_DATA
    assert "no accepted examples" in nothing.reason
    publish_day("2026-11-02", [(QUESTIONS[0], "a", "train")])
    little = snapshot()
    assert little.verdict is Verdict.INSUFFICIENT_DATA
    assert "at least 2 training examples" in little.reason
    assert little.snapshot is None
    assert snapshot(until=date(2026, 11, 1)).verdict is Verdict.INSUFFICIENT_DATA


def test_a_training_set_on_which_no_model_can_be_judged_is_not_enough(publish_day, snapshot):
    publish_day("2026-11-02", [("one", "a", "train"), ("two", "b", "train")])
    result = snapshot()
    assert (result.verdict, result.snapshot) == (Verdict.INSUFFICIENT_DATA, None)
    assert "without held-out examples no model made from it could be judged" in result.reason


def test_a_run_may_ask_for_more_examples_than_the_application(publish_day, snapshot):
    publish_day("2026-11-02", [("one", "a", "train"), ("two", "b", "train"), (QUESTIONS[0], "c", "held_out")])
    assert snapshot(min_examples=2).verdict is Verdict.PASS
    more = snapshot(min_examples=3)
    assert more.verdict is Verdict.INSUFFICIENT_DATA
    assert "at least 3 training examples" in more.reason


def test_any_day_of_the_calendar_may_be_asked_for(publish_day, snapshot):
    publish_day("2026-11-02", [("one", "a", "train"), ("two", "b", "train")])
    assert snapshot(until=date(1, 1, 5)).verdict is Verdict.INSUFFICIENT_DATA
    assert snapshot(until=date.max).verdict is Verdict.INSUFFICIENT_DATA


def test_the_same_days_are_the_same_snapshot_wherever_they_lie(publish_day, snapshot, storage, tmp_path):
    for day, text in [("2026-11-02", "one"), ("2026-11-03", "two")]:
        publish_day(day, [(text, "a", "train"), (f"{text} more", "b", "train"), (f"held {text}", "c", "held_out")])
    first = snapshot()
    assert snapshot() == first
    assert snapshot(until=date(2026, 11, 3), window_days=2) == first
    shutil.rmtree(UPath(first.snapshot).path)
    assert snapshot() == first
    held_out = [row["digest"] for row in rows_of(first, "held_out.parquet", tmp_path)]
    assert held_out == sorted(held_out)


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["s3"], indirect=True)
def test_it_works_in_an_object_store(publish_day, snapshot, storage, tmp_path):
    assert snapshot().verdict is Verdict.INSUFFICIENT_DATA
    publish_day(
        "2026-11-02",
        [("one", "a", "train"), ("two", "b", "train"), *((text, "c", "held_out") for text in QUESTIONS[:2])],
    )
    publish_day("2026-11-03", [("three", "a", "train"), (QUESTIONS[0], "b", "train")])
    first = snapshot(until=date(2026, 11, 2))
    assert first.snapshot.startswith("s3://")
    assert prompts(first, "train.parquet", tmp_path) == ["one", "two"]
    second = snapshot()
    assert (second.train_examples, second.held_out_examples) == (4, 1)
    assert snapshot() == second


def test_a_window_ends_at_the_day_that_was_asked_for(publish_day, snapshot):
    for day in range(2, 7):
        publish_day(f"2026-11-0{day}", [(f"text {day}", "a", "train"), (f"more {day}", "a", "train")])
    assert snapshot(until=date(2026, 11, 5), window_days=2).days == ["2026-11-04", "2026-11-05"]


def test_nothing_is_left_in_scratch_by_success_or_by_a_damaged_day(publish_day, snapshot, storage):
    partition, manifest = publish_day("2026-11-02", [("one", "a", "train"), ("two", "b", "train")])
    scratch = UPath(storage) / ".scratch"
    snapshot()
    publish_day("2026-11-03", [("three", "a", "train")])
    (partition / manifest.files[0].path).write_bytes(b"damaged")
    with pytest.raises(BadInput):
        snapshot()
    assert list(scratch.iterdir()) == []


DIE_AT = """
import os, signal, sys
from nightshift.storage import partition
from nightshift.jobs.contract import perform, read_spec
from nightshift.jobs.progress import Progress

def die_at(name, number):
    whole, calls = getattr(partition, name), []
    def until_then(*arguments):
        calls.append(name)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*arguments)
    setattr(partition, name, until_then)

die_at(sys.argv[1], int(sys.argv[2]))
perform("snapshot", read_spec("snapshot", sys.argv[3]), sys.argv[4], Progress("snapshot"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", [("put", 1), ("put", 2), ("create", 1)])
def test_a_snapshot_that_is_killed_leaves_nothing_half_visible_and_the_next_is_the_same(
    publish_day, snapshot, storage, tmp_path, step
):
    publish_day("2026-11-02", [("one", "a", "train"), ("two", "b", "train"), (QUESTIONS[0], "c", "held_out")])
    spec = Spec(application=APPLICATION, storage=storage)
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    arguments = [*map(str, step), str(tmp_path / "spec.json"), str(tmp_path / "result.json")]
    killed = subprocess.run([sys.executable, "-c", DIE_AT, *arguments], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "result.json").exists()
    assert published_snapshots(storage, "app") == []

    again = snapshot()
    first = require_manifest(UPath(again.snapshot))
    shutil.rmtree(UPath(again.snapshot).path)
    assert snapshot().digest == first.digest
    assert prompts(snapshot(), "train.parquet", tmp_path) == ["one", "two"]


def test_preferences_are_asked_of_the_pairs_alone_and_too_few_are_no_pass(publish_day, snapshot, tmp_path):
    rejected = {"role": "assistant", "content": "no idea"}
    publish_day("2026-11-02", [(text, "a", "train") for text in QUESTIONS[:2]] + [(QUESTIONS[2], "a", "held_out")])
    none = snapshot(recipe="dpo")
    assert (none.verdict, none.snapshot, none.train_examples) == (Verdict.INSUFFICIENT_DATA, None, 0)
    assert "0 training and 0 held-out preference pairs" in none.reason
    assert "at least 2 training preference pairs are asked for" in none.reason

    sides = ("train", "train", "held_out")
    publish_day(
        "2026-11-03",
        [(text, "a", side, None, rejected) for text, side in zip(QUESTIONS[3:], sides, strict=True)],
    )
    found = snapshot(recipe="dpo")
    assert (found.verdict, found.train_examples, found.held_out_examples) == (Verdict.PASS, 2, 1)
    assert found.snapshot == snapshot(recipe="sft").snapshot, "examples and pairs are of one snapshot"
    kept = [row["rejected"]["content"] for row in rows_of(found, "held_out.parquet", tmp_path) if row["rejected"]]
    assert kept == ["no idea"]
