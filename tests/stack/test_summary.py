"""The summary says what was measured, and a question mark where something was not."""

from nightshift.stack.banking_story import Story, links
from nightshift.stack.summary import (
    finetune_summary,
    ingest_summary,
    intervals_summary,
    replay_summary,
    shadow_summary,
)

RESULTS = {
    "snapshot": {"train_examples": 1959, "held_out_examples": 1001},
    "train": {"steps": 117, "train_tokens": 102_300, "seconds": 118.4, "tokens_per_second": 864.0, "held_out_loss": 0.41},
    "evaluate": {
        "examples": 300,
        "scores": {
            "base": {"exact_match": {"value": 0.003, "low": 0.0, "high": 0.01}},
            "candidate": {"exact_match": {"value": 0.883, "low": 0.847, "high": 0.917}},
        },
    },
    "register": {
        "name": "banking_assistant", "version": "1", "aliases": ["candidate", "champion"], "verdict": "PASS",
        "reasons": ["exact match 0.883 is at least 0.5"], "run_url": "http://mlflow/run", "model_url": "http://mlflow/model",
    },
}  # fmt: skip


def test_the_numbers_of_a_run_are_in_its_summary() -> None:
    text = finetune_summary(RESULTS)

    assert "1,959 examples to train on, 1,001 held out" in text
    assert "117 steps, 102,300 tokens in 118 s: 864 tokens/s; held-out loss 0.410" in text
    assert "exact match  base 0.3% [0.0%, 1.0%] · candidate 88.3% [84.7%, 91.7%]" in text
    assert "banking_assistant version 1 (candidate, champion): PASS" in text


def test_every_row_of_a_day_is_accounted_for_in_the_table() -> None:
    counts = {"rows_in": 1235, "kept": 1230, "duplicates": 1, "near_duplicates": 2, "quarantined": 2}
    text = ingest_summary({"2026-11-02": {"ingest": counts, "validate": {"verdict": "WARN"}}})

    assert text.splitlines()[1].split() == ["2026-11-02", "1,235", "1,230", "1", "2", "2", "WARN"]


def test_missing_results_are_question_marks_and_no_crash() -> None:
    assert "?" in finetune_summary({})
    assert ingest_summary({"2026-11-02": {}}).splitlines()[1].split() == ["2026-11-02", "?", "?", "?", "?", "?", "?"]
    assert "?" in intervals_summary({"2026-11-06": {}})
    assert replay_summary({}) == "  ?: "
    assert shadow_summary({}) == "  ?: "
    assert links(Story(days={}, intervals={}, first={}, retraining={}, shadow={}, replay={}, bias={})) == ""


def test_a_night_shows_its_accuracy_beside_its_verdict() -> None:
    night = {
        "score": {"rows": 471, "means": {"exact_match": 0.512}},
        "drift": {"verdict": "FAIL", "worst": "prompt_topic"},
    }
    assert intervals_summary({"2026-11-06": night}).splitlines()[1].split() == [
        "2026-11-06", "471", "51.2%", "FAIL", "prompt", "topic",
    ]  # fmt: skip


def test_a_shadow_says_how_the_candidate_answered_and_its_page_is_named() -> None:
    shadow = {"verdict": "PASS", "reasons": ["shadow: above -5.0%"], "run_url": "http://mlflow/shadow"}
    assert shadow_summary(shadow) == "  PASS: shadow: above -5.0%"
    story = Story(days={}, intervals={}, first={}, retraining={}, shadow=shadow, replay={}, bias={})
    assert links(story).split() == ["shadow", "http://mlflow/shadow"]


def test_a_replay_says_what_became_better_on_what() -> None:
    numbers = {"rows": 230.0, "before": 0.0, "after": 0.743, "gain": 0.743, "low": 0.7, "high": 0.8}
    text = replay_summary({"verdict": "PASS", "reasons": ["it helped"], "parts": {"new": numbers}})
    assert "intents it did not     0.0% ->  74.3%   on 230 messages" in text
    assert text.endswith("PASS: it helped")
