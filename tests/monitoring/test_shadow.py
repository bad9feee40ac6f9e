"""What a shadow says of two answers to each logged prompt: no worse, worse, not shown, or too little to compare."""

import pytest

from nightshift.evaluation.shadow_file import ShadowFile
from nightshift.monitoring.logged_prompts import LoggedPrompts
from nightshift.monitoring.shadow import compared, verdict_of
from nightshift.monitoring.shadow_report import pieces, render
from nightshift.settings.application import Application
from nightshift.settings.shadow import Shadow
from nightshift.verdict import Verdict

SETTINGS = Shadow(min_prompts=50, margin=0.05)
APP = Application(name="app", sources=[{"uri": "rows.jsonl", "columns": {"prompt": "text"}}], shadow=SETTINGS)
EVIL = "<script>alert(1)</script> <del>{{ 7 * 7 }}</del>"


def sides(right, now_right, *, reference="card arrival", valid=(1.0, 1.0), judge=(None, None)):
    """Rows of both: the champion is right on the rows of `right`, the candidate on those of `now_right`."""

    def rows(side, known):
        return [
            {
                "prompt": f"where is card {n}", "reference": reference, "unit": str(n), "judge": judge[side],
                "response": "card arrival" if n in known else "nonsense", "valid": valid[side], "cost": None,
                "response_tokens": 2 + side, "response_characters": 8, "latency_ms": None,
            }
            for n in range(200)
        ]  # fmt: skip

    return rows(0, right), rows(1, now_right)


def said(both, judged_by="reference", level=0.05, last=True, **settings):
    wanted = SETTINGS.model_copy(update=settings)
    return verdict_of(compared(*both, judged_by, "exact_match"), wanted, level, last)


@pytest.mark.parametrize(
    ("candidate", "verdict"),
    [
        (range(160), Verdict.PASS),
        (range(157), Verdict.PASS),  # worse, and by less than the margin with its whole interval
        (range(152), Verdict.WARN),  # 4 points worse: it may be more
        (range(149), Verdict.FAIL),
        (range(40, 200), Verdict.WARN),  # as many right, but others
    ],
)
def test_a_candidate_passes_only_where_it_is_shown_to_be_no_worse_by_the_margin(candidate, verdict):
    found, reasons = said(sides(range(160), candidate))
    assert found is verdict
    assert "difference in exact match to the champion on 200 logged prompts" in reasons[0]


def test_with_a_margin_of_nothing_it_must_be_better():
    assert said(sides(range(160), range(160)), margin=0.0)[0] is Verdict.WARN
    assert said(sides(range(160), range(180)), margin=0.0)[0] is Verdict.PASS


def test_a_look_before_the_last_says_only_what_is_shown():
    assert said(sides(range(160), range(152)), last=False) == (None, [])
    assert said(sides(range(160), range(80)), last=False)[0] is Verdict.FAIL


def test_equal_answers_that_nobody_can_judge_are_no_pass():
    found, reasons = said(sides(range(160), range(160), reference=None), judged_by=None)
    assert found is Verdict.INSUFFICIENT_DATA
    assert "0 logged prompts can be compared, at least 50 are asked for" in reasons[0]


def test_without_known_answers_a_judge_says_which_are_good():
    both = sides(range(160), range(160), reference=None, judge=(0.8, 0.5))
    found, reasons = said(both, judged_by="judge")
    assert (found, "judge's score" in reasons[0]) == (Verdict.FAIL, True)


def test_answers_that_become_invalid_fail_whatever_else_they_are():
    found, reasons = said(sides(range(160), range(200), valid=(1.0, 0.0)))
    assert (found, "valid share" in reasons[0]) == (Verdict.FAIL, True)


def test_what_is_measured_of_both_is_a_mean_of_each():
    means = compared(*sides(range(160), range(200)), "reference", "exact_match").means
    assert means["exact_match"] == (0.8, 1.0)
    assert means["tokens"] == (2, 3)
    assert means["likeness"][1] >= 0.8
    assert "cost" not in means
    empty = [row | {"response": ""} for row in sides(range(160), range(200))[0]]
    assert compared(empty, empty, None, "exact_match").means["likeness"] == (None, 1)


def test_parts_hold_whole_subjects_and_enough_rows():
    rows = [{"unit": f"user {n // 30}"} for n in range(200)]
    parts = LoggedPrompts(rows, rows, "reference", []).parts(looks=4, smallest=45)
    assert [part.start for part in parts] == [0, 60, 120, 150]
    assert parts[-1].stop == 200
    assert len(LoggedPrompts(rows[:20], rows[:20], None, []).parts(looks=4, smallest=45)) == 1
    assert LoggedPrompts([], [], None, []).parts(looks=4, smallest=45) == []


def test_both_answers_in_pieces_are_the_answers():
    old, new = pieces("Your card comes  on Monday.", "Your card comes on Tuesday, sorry.")
    assert "".join(text for text, _ in old) == "Your card comes  on Monday."
    assert "".join(text for text, _ in new) == "Your card comes on Tuesday, sorry."
    assert ("Your card comes", False) in old


def test_what_users_and_models_wrote_is_text_on_the_page():
    old, new = sides(range(160), range(150))
    for row in (*old, *new):
        row |= {"prompt": EVIL, "response": f"{row['response']} {EVIL}", "reference": EVIL}
    found = compared(old, new, "reference", "exact_match")
    verdict, _ = verdict_of(found, SETTINGS, 0.05, last=True)
    file = ShadowFile(
        application="app", version="2", champion="1", verdict=verdict, reasons=[EVIL], answered=200, prompts=200,
        metric=found.metric, difference=found.difference(0.05), margin=0.05, level=0.05, look=1, looks=4, means=found.means,
    )  # fmt: skip
    page = render(APP, file, found)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "{{ 7 * 7 }}" in page
    assert "10 of 200 answers differ" in page
    assert "app · version 2 against version 1, the champion, on 200 logged prompts" in page
