"""The page of a search: every trial with all that is known of it, and the picture of the front."""

from nightshift.evaluation.halving import Scored, SearchFile, Trial
from nightshift.evaluation.search_report import price_of, render

CHOICES = [{}, {"prompt": "prompts/<script>.yaml"}, {"few_shot": 4}]


def searched(*metrics):
    scored = [
        Scored(trial=trial, rung=1, rows=50, score=trial / 4, metrics=known) for trial, known in enumerate(metrics)
    ]
    trials = [Trial(choices=one, model="m", model_digest="d") for one in CHOICES]
    return SearchFile(
        metric="exact_match", trials=trials, rungs=[scored, scored[::2]], best=2, rows=300, final=(0.0, 0.5), gain=None,
        level=0.05, better=False, reason="nothing better than today: <b>",
    )  # fmt: skip


def test_trials_are_shown_as_text_with_what_is_known_of_each():
    page = render(
        "returns", searched({"latency_ms": 200.0}, {"latency_ms": 300.0, "citing": 0.4}, {"latency_ms": 100.0})
    )
    assert "prompts/&lt;script&gt;.yaml" in page
    assert "<b>" not in page
    assert page.count("<circle") == 3
    assert "<th>2 (front)</th>" in page
    assert "<th>1</th>" in page
    assert "<td>40.0</td>" in page
    assert "100 milliseconds an answer" not in page.split("<table>")[1]


def test_what_all_trials_take_is_money_where_there_is_some_else_time_else_words():
    def price(*metrics):
        return price_of({one.trial: one for one in searched(*metrics).rungs[0]})

    assert price({"cost": 0.1, "latency_ms": 1.0}, {"cost": 0.2, "latency_ms": 1.0}) == "cost"
    assert price({"cost": 0.0, "latency_ms": 1.0}, {"cost": 0.0, "latency_ms": 2.0}) == "latency_ms"
    assert price({"latency_ms": 1.0, "context_words": 2.0}, {"context_words": 9.0}) == "context_words"
    assert price({}, {}) is None


def test_without_anything_that_trials_take_there_is_the_table_alone():
    page = render("returns", searched({}, {}, {}))
    assert "<svg" not in page
    assert page.count("<tr") == 4
