"""Whether a release helped: measured on rows that nobody trained on, known and new answers apart."""

import pyarrow as pa
import pytest

from nightshift.ledger.records import Decision, Order
from nightshift.monitoring.replay import helped, replayed
from nightshift.monitoring.replay_report import render
from nightshift.monitoring.verdicts import IntervalVerdict
from nightshift.settings.application import Application, Gate
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
    drift = IntervalVerdict(
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
    assert "app · interval 2026-11-07, answered again by version 2" in page


@pytest.fixture
def application():
    return Application(name="app", sources=[{"uri": "rows.jsonl", "columns": {"prompt": "text"}}], gate=POLICY)
