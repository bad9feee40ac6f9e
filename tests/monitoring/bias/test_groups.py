"""Scores of a night by group: who is mentioned, which segment, which language."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.data.interactions import INTERACTION_SCHEMA
from nightshift.monitoring.bias import groups
from nightshift.monitoring.bias.groups import group_findings
from nightshift.monitoring.bias.mentions import WORDS, mentions, pattern
from nightshift.monitoring.bias.verdict import judge
from nightshift.settings.policies import Bias
from nightshift.settings.scorers import Scorer
from nightshift.verdict import Verdict

HOSTILE = "<script>alert(1)</script>"


def night(tmp_path, rows):
    """Write a night of rows {prompt, tier, …scores}; what is left out is harmless."""
    defaults = {
        "digest": "d", "response": "r", "model": "1", "model_digest": "m", "prompt_version": "p",
        "prompt_language": "en", "response_language": "en", "valid": 1.0, "refusal": 0.0, "toxicity": 0.0,
        "sentiment": 0.0, "pii": 0.0, "prompt": "where is my card", "response_characters": 10, "prompt_characters": 10,
        "prompt_tokens": 3, "response_tokens": 3,
    }  # fmt: skip
    columns = {
        field.name: [
            at
            if field.name == "row"
            else ([("tier", row["tier"])] if row.get("tier") else [])
            if field.name == "metadata"
            else row.get(field.name, defaults.get(field.name))
            for at, row in enumerate(rows)
        ]
        for field in INTERACTION_SCHEMA
    }
    file = tmp_path / "interactions.parquet"
    pq.write_table(pa.table(columns, schema=INTERACTION_SCHEMA), file)
    return file


def test_the_name_of_a_group_is_bounded_however_long_the_value_is(tmp_path):
    file = night(tmp_path, [{"tier": tier} for tier in ("x" * 100_000, "basic") for _ in range(40)])
    assert {one.group for one in group_findings(file, ["tier"], 30) if one.dimension == "tier"} == {"x" * 200, "basic"}


OWN = {
    "warmth": Scorer(function="tone:warmth", min=-2, max=2),
    "apology": Scorer(function="tone:apology", kind="share"),
}


@pytest.mark.parametrize("batch_rows", [7, 65_536])
def test_groups_are_compared_by_the_values_of_own_scorers_in_parts_of_their_range(tmp_path, monkeypatch, batch_rows):
    monkeypatch.setattr(groups, "BATCH_ROWS", batch_rows)
    file = night(tmp_path, [{"tier": tier} for tier in ("gold", "basic") for _ in range(100)])
    table = pq.read_table(file)
    warmth = [1.0] * 100 + [0.0] * 90 + [None] * 10
    table = table.append_column("warmth", pa.array(warmth, pa.float32()))
    table = table.append_column("apology", pa.array([1.0] * 80 + [0.0] * 120, pa.float32()))
    pq.write_table(table, file)
    found = named(group_findings(file, ["tier"], 30, scorers=OWN))
    gold, apology = found["tier", "gold", "warmth"], found["tier", "gold", "apology"]
    assert (gold.value, gold.mean, gold.mean_other, gold.n_other) == (0.25, 0.75, 0.5, 90)
    assert apology.value == pytest.approx(0.8)
    assert apology.low < 0.8 < apology.high
    failing = judge(list(found.values()), Bias(max_gap=0.1)).failing
    assert {"outputs/tier/gold/warmth", "outputs/tier/gold/apology"} <= set(failing)


def named(findings):
    return {(one.dimension, one.group, one.metric): one for one in findings}


def test_mentions_are_whole_words_whatever_their_case():
    prompts = pa.array(
        [
            "My WIFE lost her card",
            "the mother-in-law",
            "this is a hermit",
            "a man and a woman",
            "old card",
            "Senior  citizens?",
            "",
        ]
    )
    found = {(dimension, group): mask.tolist() for dimension, group, mask in mentions(prompts)}
    assert found["gender", "female"] == [True, True, False, True, False, False, False]
    assert found["gender", "male"] == [False, False, False, True, False, False, False]
    assert found["age", "old"] == [False, False, False, False, False, True, False]


def test_every_word_of_every_list_finds_itself_and_nothing_of_it_is_a_pattern():
    for dimension, lists in WORDS.items():
        for group, words in lists.items():
            prompts = pa.array([f"({word.upper()})" for word in words])
            masks = {(where, who): mask for where, who, mask in mentions(prompts)}
            assert masks[dimension, group].all(), (dimension, group)
    assert pattern(("a.b", "c d")) == r"\b(?:a\.b|c\s+d)\b"


def test_a_group_in_a_language_that_a_scorer_does_not_know_is_not_compared_by_it(tmp_path):
    german = {"prompt_language": "de", "toxicity": None, "sentiment": None, "refusal": None, "exact_match": 1.0}
    rows = [{"sentiment": 0.4, "exact_match": 1.0}] * 100 + [german] * 100
    judged = judge(group_findings(night(tmp_path, rows), [], 30), Bias())
    assert judged.verdict is Verdict.PASS
    mood = named(judged.findings)["prompt_language", "de", "sentiment"]
    assert (mood.verdict, mood.value, mood.n) == (Verdict.INSUFFICIENT_DATA, None, 0)
    assert mood.why == ("only 0 of 100 rows, and 100 of 100 of the others, are in a language that its scorer knows")
    assert named(judged.findings)["prompt_language", "de", "exact_match"].value == 0.0
    assert judged.reasons[0].endswith("6 gaps have no value to tell them by")  # three scores of two languages


def test_a_metric_that_no_row_has_is_no_gap_that_could_not_be_told(tmp_path):
    found = named(group_findings(night(tmp_path, [{"prompt_language": one} for one in ("en", "de") * 50]), [], 30))
    assert ("prompt_language", "de", "exact_match") not in found
    assert ("mentioned gender", "female", "toxicity") not in found


def test_a_group_that_is_answered_worse_fails(tmp_path):
    rows = [{"tier": "gold", "exact_match": 1.0, "refusal": 0.02} for _ in range(200)]
    rows += [{"tier": "basic", "exact_match": float(at % 2), "refusal": 0.02} for at in range(60)]
    judged = judge(group_findings(night(tmp_path, rows), ["tier"], 30), Bias())
    assert judged.verdict is Verdict.FAIL
    assert "outputs/tier/basic/exact_match" in judged.failing
    gap = named(judged.findings)["tier", "basic", "exact_match"]
    assert (gap.n, gap.n_other, gap.mean, gap.mean_other, gap.value) == (60, 200, 0.5, 1.0, -0.5)
    assert named(judged.findings)["tier", "basic", "refusal"].verdict is Verdict.PASS


def test_groups_that_are_answered_alike_pass(tmp_path):
    chance = np.random.default_rng(5)
    rows = [
        {
            "tier": str(chance.choice(["gold", "basic"])),
            "prompt": str(chance.choice(["my husband and me", "my wife and me"])),
            "exact_match": float(chance.random() < 0.8),
            "toxicity": float(chance.beta(1, 30)),
            "response_characters": int(chance.integers(5, 40)),
            "sentiment": float(chance.normal(0, 0.1)),
        }
        for _ in range(600)
    ]
    judged = judge(group_findings(night(tmp_path, rows), ["tier"], 30), Bias())
    assert judged.verdict is Verdict.PASS
    assert named(judged.findings)["mentioned gender", "female", "exact_match"].verdict is Verdict.PASS


def test_a_group_is_held_against_those_that_mention_another_group(tmp_path):
    rows = [{"prompt": "my wife asks", "toxicity": 0.9} for _ in range(40)]
    rows += [{"prompt": "my husband asks", "toxicity": 0.1} for _ in range(35)]
    rows += [{"prompt": "nobody asks", "toxicity": 0.5} for _ in range(500)]
    found = named(group_findings(night(tmp_path, rows), [], 30))["mentioned gender", "female", "toxicity"]
    assert (found.n, found.n_other) == (40, 35)
    assert found.value == pytest.approx(0.8)


def test_small_groups_are_insufficient_data(tmp_path):
    rows = [{"tier": "gold"} for _ in range(100)] + [{"tier": "rare", "toxicity": 1.0} for _ in range(29)]
    judged = judge(group_findings(night(tmp_path, rows), ["tier"], 30), Bias())
    assert named(judged.findings)["tier", "rare", "toxicity"].verdict is Verdict.INSUFFICIENT_DATA
    assert named(judged.findings)["tier", "gold", "toxicity"].verdict is Verdict.INSUFFICIENT_DATA
    assert judged.verdict is Verdict.INSUFFICIENT_DATA


def test_a_length_is_compared_by_its_rank_so_that_one_long_answer_is_no_gap(tmp_path):
    rows = [{"tier": "a", "response_characters": 10 + at % 7} for at in range(100)]
    rows += [{"tier": "b", "response_characters": 10 + at % 7} for at in range(99)]
    rows += [{"tier": "b", "response_characters": 1_000_000}]
    found = named(group_findings(night(tmp_path, rows), ["tier"], 30))["tier", "b", "response_characters"]
    assert abs(found.value) < 0.02
    rows = [{"tier": tier, "response_characters": 10 + 50 * (tier == "b")} for tier in "ab" for _ in range(100)]
    found = named(group_findings(night(tmp_path, rows), ["tier"], 30))["tier", "b", "response_characters"]
    assert found.value == pytest.approx(0.5)


def test_a_night_read_in_small_batches_gives_the_same(tmp_path, monkeypatch):
    chance = np.random.default_rng(6)
    rows = [
        {"tier": str(chance.choice(["a", "b", HOSTILE])), "toxicity": float(chance.random()), "prompt_language": "de"}
        for _ in range(300)
    ]
    file = night(tmp_path, rows)
    whole = group_findings(file, ["tier"], 30)
    monkeypatch.setattr(groups, "BATCH_ROWS", 17)
    in_parts = group_findings(file, ["tier"], 30)
    assert [one.name for one in whole] == [one.name for one in in_parts]
    assert [one.value for one in whole] == pytest.approx([one.value for one in in_parts], abs=1e-6)


def test_a_segment_with_endless_values_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr(groups, "MOST_VALUES", 5)
    rows = [{"tier": f"user {at}"} for at in range(200)]
    found = {one.group: one for one in group_findings(night(tmp_path, rows), ["tier"], 30) if one.dimension == "tier"}
    assert len(found) == 6
    assert found[groups.OTHER].n == 195


def test_rows_without_the_segment_or_a_reference_are_left_out(tmp_path):
    rows = [{"tier": "a", "exact_match": 1.0} for _ in range(40)] + [{"tier": "b"} for _ in range(40)] + [{}] * 50
    found = named(group_findings(night(tmp_path, rows), ["tier"], 30))
    assert found["tier", "a", "toxicity"].n_other == 40
    assert found["tier", "a", "exact_match"].n_other == 0
    assert found["tier", "a", "exact_match"].verdict is Verdict.INSUFFICIENT_DATA
    assert found["tier", "b", "exact_match"].why == "only 0 of 40 rows, and 40 of 40 of the others, have a value"


def test_an_empty_night_has_no_group(tmp_path):
    assert group_findings(night(tmp_path, []), ["tier"], 30) == []
