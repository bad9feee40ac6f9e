"""Whether a release helped: measured on rows that nobody trained on, known and new answers apart."""

from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.data.dedup import KEPT
from nightshift.data.examples import EXAMPLE_SCHEMA, digest_of_messages
from nightshift.data.questions import Questions
from nightshift.data.similarity import connect
from nightshift.data.snapshot import TRAIN as TRAINING_SET
from nightshift.data.split_map import HELD_OUT, TRAIN, SplitMap
from nightshift.data.unseen import seen_in_training
from nightshift.ledger.records import Decision, Order
from nightshift.monitoring.replay import helped, replayed
from nightshift.monitoring.replay_report import render
from nightshift.monitoring.verdicts import NightVerdict
from nightshift.settings.application import Application, Gate
from nightshift.settings.intake import Splits
from nightshift.storage.partition import Parent, partition_of, publish
from nightshift.verdict import Verdict

POLICY = Gate(min_examples=20, max_loss_to_champion=0.05)


def night(answers):
    """A table of interactions: (wanted, said) of each row."""
    return pa.table(
        {
            "row": range(len(answers)),
            "digest": [f"{number:064x}" for number in range(len(answers))],
            "prompt": [f"message {number}" for number in range(len(answers))],
            "response": [said for _, said in answers],
            "reference": [wanted for wanted, _ in answers],
        },
        schema=pa.schema(
            [("row", pa.int64())] + [(name, pa.string()) for name in ("digest", "prompt", "response", "reference")]
        ),
    )


BEFORE = [("card arrival", "card arrival")] * 60 + [("top up", "card arrival")] * 40


def after(known_right, new_right):
    return [("card arrival", "card arrival" if n < known_right else "?") for n in range(60)] + [
        ("top up", "top up" if n < new_right else "?") for n in range(40)
    ]


def measured(now, trained_on=frozenset()):
    return replayed(night(BEFORE), night(now), frozenset({"card arrival"}), trained_on)


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (after(60, 35), Verdict.PASS),
        (after(60, 1), Verdict.WARN),  # one more right may be luck
        (after(60, 0), Verdict.FAIL),
        (after(50, 35), Verdict.WARN),  # paid for with what it knew
    ],
)
def test_it_helped_when_new_answers_became_right_and_known_ones_stayed(now, verdict):
    found, reasons = helped(measured(now), POLICY)
    assert found is verdict
    assert "rows with new answers" in reasons[0]


def test_known_and_new_answers_are_told_apart_by_what_the_earlier_champion_was_trained_on():
    found = measured(after(60, 35))
    assert (found.known.examples, found.new.examples, found.left_out) == (60, 40, 0)
    assert found.new.scores["champion"]["exact_match"].value == 0
    assert found.new.scores["candidate"]["exact_match"].value == 35 / 40


def test_rows_that_were_trained_on_or_have_no_known_answer_do_not_count():
    digests = frozenset(f"{number:064x}" for number in range(30))
    found = measured(after(60, 35), digests)
    assert (found.everything.examples, found.left_out) == (70, 30)
    unanswered = night([(None, "x")] * 100)
    found = replayed(unanswered, unanswered, frozenset(), frozenset())
    assert helped(found, POLICY)[0] is Verdict.INSUFFICIENT_DATA


def test_hostile_reasons_show_as_text_on_the_page(application):
    evil = "<script>alert(1)</script>"
    decision = Decision(
        action="retrain", code="forced", reason=evil, decided="2026-11-08T00:00:00Z", nights=["2026-11-07"]
    )
    order = Order(number=1, decision=decision, created="2026-11-08T00:00:00Z")
    now = measured(after(60, 35))
    drift = NightVerdict(
        verdict=Verdict.PASS,
        rows=100,
        reference_rows=100,
        metrics=[],
        segments=[],
        trailing=[],
        trailing_rows=0,
        reasons=[evil],
    )
    page = render(
        application, "2026-11-07", order, "2", measured=now, verdict=Verdict.PASS, reasons=[evil], drift=drift
    )
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "87.5" in page


@pytest.fixture
def application():
    return Application(name="app", sources=[{"uri": "rows.jsonl", "columns": {"prompt": "text"}}], gate=POLICY)


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
    with connect(tmp_path) as database:
        kept = np.full(2, KEPT, dtype=np.uint8)
        questions.settle(SplitMap(storage, "app"), ["x"], kept, 2.0, work=tmp_path, database=database, already=True)
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


def test_where_nothing_tells_what_was_trained_on_no_row_counts(tmp_path):
    asked = night(BEFORE)
    seen = seen_in_training(asked, (tmp_path / "storage").as_uri(), "app")
    found = replayed(asked, night(after(60, 35)), frozenset(), seen)
    assert helped(found, POLICY)[0] is Verdict.INSUFFICIENT_DATA
