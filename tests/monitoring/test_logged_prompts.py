"""Which logged prompts a candidate answers: unlike all that was trained on, the newest first, those that can be compared."""

import logged_intervals
import pytest
from logged_intervals import TRAINED_ON, application, asked

from nightshift.monitoring.logged_prompts import logged_prompts

publish_day, storage, night = logged_intervals.publish_day, logged_intervals.storage, logged_intervals.night
JUDGE = {"url": "https://llm.example.com/v1", "model": "m"}


def drawn(nights, storage, app=None, salt="s"):
    return logged_prompts(nights, app or application(), storage, salt)


def test_what_resembles_a_training_row_is_left_out_and_a_subject_is_one_unit(night, storage):
    found = drawn([night("2026-11-03", [*asked(20), (TRAINED_ON.upper(), "user 99")])], storage)
    assert {row["prompt"] for row in found.rows} == {text for text, _ in asked(20)}
    assert [row["prompt"] for row in found.rows] == [row["prompt"] for row in found.examples]
    assert {row["unit"] for row in found.rows} == {f"user {n}" for n in range(10)}
    assert found.rows[0]["unit"] == found.rows[1]["unit"]
    assert found.rows[0]["cost"] == pytest.approx(0.5 / 21)
    assert found.judged_by == "reference"


def test_the_newest_night_comes_first_and_earlier_ones_only_fill_it_up(night, storage):
    nights = [night("2026-11-04", asked(20, "why is fee number")), night("2026-11-03", asked(40))]
    found = drawn(nights, storage)
    assert len(found.rows) == 30
    assert sum("fee" in row["prompt"] for row in found.rows) == 20
    assert drawn(nights, storage, application(shadow={"prompts": 20})).intervals == nights[:1]


def test_another_candidate_gets_other_rows_and_the_same_one_the_same(night, storage):
    nights = [night("2026-11-03", asked(200))]
    texts = [[row["prompt"] for row in drawn(nights, storage, salt=salt).rows] for salt in ("s", "s", "t")]
    assert texts[0] == texts[1]
    assert set(texts[0]) != set(texts[2])


def test_without_known_answers_the_judge_compares_and_only_the_same_judge(night, storage):
    app = application(judge=JUDGE)
    same = night("2026-11-03", asked(40), reference=None, judge=0.8, inputs={"judge": app.judged_by})
    assert drawn([same], storage, app).judged_by == "judge"
    other = night("2026-11-04", asked(40), reference=None, judge=0.8, inputs={"judge": {"model": "another"}})
    found = drawn([other], storage, app)
    assert (found.judged_by, len(found.rows)) == (None, 10)
    assert found.rows[0]["judge"] is None
