"""What people read before they decide: all numbers with their intervals, answers side by side, and only text from outside."""

from functools import cache

import pytest
from markdown_it import MarkdownIt

from nightshift.evaluation.estimates import Estimate
from nightshift.evaluation.gates import gate
from nightshift.evaluation.request import Cost, Facts, FailedInterval, compose, subject_of
from nightshift.evaluation.score_file import ScoreFile
from nightshift.evaluation.scores import Answers, compare
from nightshift.evaluation.side_by_side import side_by_side
from nightshift.settings.application import Application
from nightshift.verdict import Verdict

APP = Application(
    name="support",
    sources=[{"uri": "rows.jsonl", "columns": {"prompt": "text", "answer": "answer"}}],
    approval={"required": "always", "timeout_hours": 36},
)
WANTED = [f"answer {n}" for n in range(60)]
# The champion is right on the first 40, the candidate on the last 50: ten lost, twenty gained, none missed by both.
CHAMPION = [text if n < 40 else "nonsense" for n, text in enumerate(WANTED)]
CANDIDATE = [text if n >= 10 else "gibberish" for n, text in enumerate(WANTED)]
HOSTILE = (
    "<img src=x onerror=alert(1)> ![a](http://evil.test/a.png) [b](javascript:alert(1)) www.evil.test `` ` | \\| "
    "\\\\| </td> me@evil.test \u202ehttp://evil.test {{ 7 * 7 }} {% raw %}\n\n# heading\n\n- item"
)


@cache
def scores(*, with_champion=True):
    roles = {"base": [""] * 60, **({"champion": CHAMPION} if with_champion else {}), "candidate": CANDIDATE}
    given = {role: Answers(answer=texts, reference=WANTED) for role, texts in roles.items()}
    comparison = compare(given)
    decision = gate(comparison, APP.gate)
    return ScoreFile(
        application="support", snapshot="s", days=["2026-11-02", "2026-11-03"], models=dict.fromkeys(given, "x"),
        comparison=comparison, slices={"known": comparison}, decision=decision,
    )  # fmt: skip


def rows(prompt="where is it", champion=CHAMPION, candidate=CANDIDATE, wanted=WANTED):
    for role, texts in {"champion": champion, "candidate": candidate}.items():
        for n, text in enumerate(texts):
            right = float(text == wanted[n])
            yield {"role": role, "digest": f"{n:03}", "prompt": f"{prompt} {n}", "wanted": wanted[n], "answer": text,
                   "exact_match": right, "chrf": right}  # fmt: skip


def facts(**given):
    known = {
        "version": "3",
        "champion": "2",
        "verdict": Verdict.WARN,
        "reasons": ["exact match fell"],
        "cause": "drift",
    }
    return Facts(**{**known, **given})


def with_examples(file, answers, against="champion"):
    return file.model_copy(update={"examples": side_by_side(answers, against)})


def text(answers=None, given=None, **kwargs):
    return compose(APP, given or facts(**kwargs), with_examples(scores(), answers or rows()))


def page(markdown):
    """As Airflow shows it: tables and bare addresses as GitHub has them, no HTML."""
    return MarkdownIt("commonmark", {"html": False, "linkify": True}).enable(["table", "linkify"]).render(markdown)


def test_the_headline_names_application_version_champion_and_verdict():
    assert subject_of(APP, facts()) == "support: release version 3 in place of version 2? The gate says WARN"
    assert "as the first champion?" in subject_of(APP, facts(champion=None))


def test_every_score_stands_with_its_interval_beside_the_champions_and_with_the_difference():
    shown = page(text())
    comparison = scores().comparison
    for role in ("base", "champion", "candidate"):
        estimate = comparison.scores[role]["exact_match"]
        assert f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]" in shown
    change = comparison.differences["champion"]["exact_match"]
    assert f"+{100 * change.value:.1f} [" in shown
    assert "Without an answer in 36 hours the candidate is rejected" in shown
    assert "60 held-out examples of 2 days (2026-11-02 to 2026-11-03)" in shown


def test_the_perplexity_of_a_model_that_cannot_answer_is_read_at_a_glance():
    file = scores().model_copy(deep=True)
    file.comparison.scores["base"]["perplexity"] = Estimate(value=65_302_981_691_554, low=4.71e13, high=9.05e13)
    assert "6.53e+13 [4.71e+13, 9.05e+13]" in page(compose(APP, facts(), with_examples(file, rows())))


def test_examples_that_only_one_gets_right_stand_side_by_side_with_how_many_there_are():
    shown = page(text())
    assert "<strong>Only the champion is right</strong> (10, 3 shown)" in shown
    assert "<strong>Only the candidate is right</strong> (20, 3 shown)" in shown
    assert "Both are wrong" not in shown
    assert shown.count("<td><code>gibberish</code></td>") == 3


def test_the_parts_that_differ_from_the_champions_are_named():
    changed = with_examples(scores(), rows()).model_copy(update={"changes": ["prompt", "decoding"]})
    told = "Parts that differ from the champion's: <code>prompt</code>, <code>decoding</code>."
    assert told in page(compose(APP, facts(), changed)).replace("&#39;", "'")
    assert "Parts that differ" not in page(text())


def test_without_a_champion_the_base_model_is_what_it_is_held_against():
    answers = [{**row, "role": row["role"].replace("champion", "base")} for row in rows()]
    lone = with_examples(scores(with_champion=False), answers, "base")
    shown = page(compose(APP, facts(champion=None), lone))
    assert "Candidate against base" in shown
    assert "there is no champion" in shown
    assert "Only the base is right" in shown


def test_it_says_what_led_to_it_what_it_cost_and_where_to_read_on():
    failed = FailedInterval(
        interval="2026-11-06", monitor="drift", verdict="FAIL", worst="prompt_novelty", worst_segment="language=de",
        run_url="http://mlflow/#/1",
    )  # fmt: skip
    cost = Cost(hours=1.5, processes=4, gpu_hours=6, cost=12.25)
    shown = page(
        text(
            cause="Retraining 4",
            intervals=[failed],
            cost=cost,
            form_reason=("eve", "before the holidays"),
            links={"Run": "http://m/r"},
        )
    )
    assert (
        "2026-11-06: drift FAIL, worst in <code>prompt_novelty</code>, worst segment <code>language=de</code>" in shown
    )
    assert '(<a href="http://mlflow/#/1">report</a>)' in shown
    assert "1.50 hours of training in 4 processes; its pods used 6.00 GPU-hours and cost 12.25." in shown
    assert "<code>eve</code> started this run and wrote: before the holidays" in shown
    assert '<a href="http://m/r">Run</a>' in shown


def test_of_an_earlier_champion_it_says_that_the_numbers_are_of_its_own_time():
    assert "Version 3 was the champion before; these are the numbers of its own time" in text(returns=True)


@pytest.mark.parametrize("where", ["prompt", "answer", "wanted", "words"])
def test_whatever_users_and_models_wrote_is_text(where):
    words = {"cause": HOSTILE, "reasons": [HOSTILE], "form_reason": (HOSTILE, HOSTILE)} if where == "words" else {}
    failed = FailedInterval(interval="2026-11-06", monitor="drift", verdict="FAIL", worst="m", worst_segment=HOSTILE)
    answers = {
        "prompt": rows(prompt=HOSTILE),
        "answer": rows(candidate=[HOSTILE] * 60),
        "wanted": rows(wanted=[HOSTILE] * 60),
        "words": rows(),
    }[where]
    written = text(answers, intervals=[failed], **words)
    shown = page(written)
    assert "<a " not in shown
    assert "<img" not in shown
    assert "<h1" not in shown
    assert "\u202e" not in shown
    assert "49" not in shown
    assert {row.count("<td>") for row in shown.split("<tr>") if "<td>" in row} == {4, 5}
    assert "onerror=alert(1)" in shown


NO_ADDRESSES = ["javascript:alert(1)", " javascript:alert(1)", "JavaScript://m/%0aalert(1)", "data:text/html,x", "//evil.test/", "s3://b/r",
                "https://", "http:///r", "<javascript:alert(1)>", "", "http://m/" + "r" * 5_000]  # fmt: skip


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_an_address_that_is_none_of_the_web_is_no_link(address):
    failed = FailedInterval(interval="2026-11-06", monitor="drift", verdict="FAIL", run_url=address)
    written = text(intervals=[failed], links={"Run of the training": address})
    assert "](" not in written  # Airflow's renderer is another, and may follow what this one does not
    assert "<a " not in page(written)
    assert "Run of the training" in written


@pytest.mark.parametrize(
    ("address", "leads_to"),
    [
        ("http://m/#/experiments/1/runs/2?a=b&copy;=c%20d", "http://m/#/experiments/1/runs/2?a=b&amp;copy%3B=c%20d"),
        ("http://m/r) [b](javascript:alert(1)", "http://m/r%29%20%5Bb%5D%28javascript:alert%281%29"),
        ("http://m/r&#41;<img src=x>&rpar;", "http://m/r&amp;#41%3B%3Cimg%20src=x%3E&amp;rpar%3B"),
        ('http://m/r" onclick="alert(1)', "http://m/r%22%20onclick=%22alert%281%29"),
        ("http://m/r\n\n# heading\\", "http://m/r%0A%0A#%20heading%5C"),
        ("HTTPS://m/\u202egpj.exe", "HTTPS://m/%E2%80%AEgpj.exe"),
    ],
)
def test_an_address_of_the_web_is_one_link_and_nothing_else(address, leads_to):
    failed = FailedInterval(interval="2026-11-06", monitor="drift", verdict="FAIL", run_url=address)
    shown = page(text(intervals=[failed], links={"Version 3": address}))
    assert f'2026-11-06: drift FAIL (<a href="{leads_to}">report</a>)' in shown
    assert f'<p><a href="{leads_to}">Version 3</a></p>' in shown
    assert shown.count("<a ") == 2


def test_what_the_scores_say_of_days_and_titles_is_text():
    file = with_examples(scores(), rows())
    kinds = [kind.model_copy(update={"title": HOSTILE}) for kind in file.examples]
    shown = page(compose(APP, facts(), file.model_copy(update={"days": [HOSTILE], "examples": kinds})))
    assert "<a " not in shown
    assert "<img" not in shown
    assert "<h1" not in shown


def test_it_stays_short_whatever_there_is_to_say():
    long = "word " * 5_000
    failed = FailedInterval(
        interval=long, monitor="drift", verdict="FAIL", worst=long, worst_segment=long, run_url=f"http://m/{'r' * 580}"
    )
    answers = rows(prompt=long, champion=[long] * 60, candidate=[long + "x"] * 60)
    assert (
        len(text(answers, cause=long, reasons=[long] * 4, form_reason=(long, long), intervals=[failed] * 100)) < 16_000
    )


def test_two_models_that_miss_nothing_leave_nothing_to_show():
    assert "Both answer every example right." in text(rows(champion=WANTED, candidate=WANTED))


def test_an_evaluation_of_an_earlier_version_has_none_to_show_and_says_where_they_are():
    shown = page(compose(APP, facts(), scores()))
    assert "the report of its evaluation shows them" in shown
    assert "<td><code>" not in shown
