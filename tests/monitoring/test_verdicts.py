"""Verdicts on whole nights of the sample's messages, and the rules by which they are put together."""

import csv
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from nightshift.monitoring.cells import Numbers
from nightshift.monitoring.profiles import ALL_ROWS, Profile, merge, profile_of
from nightshift.monitoring.verdicts import IntervalVerdict, judge_interval
from nightshift.settings.metrics import DriftKind, Metric
from nightshift.settings.policies import Drift
from nightshift.verdict import Verdict

SAMPLE = Path(__file__).parents[2] / "include" / "nightshift" / "samples" / "banking77"
MEASURED = [
    "prompt_characters", "prompt_tokens", "prompt_language", "prompt_topic", "response_characters", "finish_reason",
    "toxicity", "exact_match", "judge",
]  # fmt: skip
TEXT = {"prompt_topic", "prompt_language", "finish_reason"}
MAP = pa.map_(pa.string(), pa.string())


@pytest.fixture(scope="module")
def messages():
    """Messages of the sample: lengths, words, intents as topics, and a channel that says nothing."""
    rows = [row for file in sorted(SAMPLE.glob("*.csv")) for row in csv.DictReader(file.open())]
    texts, intents = [row["text"] for row in rows], [row["intent"] for row in rows]
    random = np.random.default_rng(0)
    return pa.table(
        {
            "prompt_characters": pa.array([len(text) for text in texts], pa.int32()),
            "prompt_tokens": pa.array([len(re.findall(r"\w+", text)) for text in texts], pa.int32()),
            "prompt_language": random.choice(["en", "es"], len(rows), p=[0.9, 0.1]),
            "prompt_topic": intents,
            "response_characters": pa.array([len(intent) for intent in intents], pa.int32()),
            "finish_reason": ["stop"] * len(rows),
            "toxicity": pa.array([float("!" in text) for text in texts], pa.float32()),
            "exact_match": pa.array(random.random(len(rows)) < 0.87).cast(pa.float32()),
            "judge": pa.nulls(len(rows), pa.float32()),
            "metadata": pa.array([[("channel", channel)] for channel in random.choice(["app", "web"], len(rows))], MAP),
        }
    )


def drawn(messages, rows, seed, **changes):
    """Return the profile of some messages, with columns changed by functions of their values."""
    random = np.random.default_rng(seed)
    table = messages.take(random.integers(0, len(messages), rows))
    for name, change in changes.items():
        values = change(np.array(table[name].to_pylist(), object if name in TEXT else float))
        kind = pa.string() if name in TEXT else pa.float32()
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values.tolist(), kind))
    return profile_of(table.to_batches(), MEASURED, ["channel"])


@pytest.fixture(scope="module")
def reference(messages):
    return drawn(messages, 1_500, 1)


def verdict_on(night, name):
    return next(one for one in night.metrics if one.metric == name)


@pytest.mark.parametrize("rows", [100, 300, 2_000])
def test_quiet_nights_do_not_fail(messages, rows):
    verdicts = [
        judge_interval(drawn(messages, rows, 100 + seed), drawn(messages, 1_500, 200 + seed), Drift()).verdict
        for seed in range(4)
    ]
    assert Verdict.FAIL not in verdicts


def test_a_trifle_is_named_at_no_number_of_rows(messages, reference):
    longer = drawn(messages, 100_000, 2, prompt_characters=lambda lengths: lengths + 0.02 * lengths.std())
    assert judge_interval(longer, drawn(messages, 100_000, 3), Drift()).verdict is Verdict.PASS


def test_new_topics_fail_the_night_and_are_named(messages, reference):
    def some_new(topics):
        return np.where(np.arange(len(topics)) % 4 == 0, "crypto wallets", topics)

    night = judge_interval(drawn(messages, 300, 4, prompt_topic=some_new), reference, Drift())
    assert night.verdict is Verdict.FAIL
    assert night.worst is Metric.PROMPT_TOPIC
    assert night.failing == [Metric.PROMPT_TOPIC]
    assert night.kinds == [DriftKind.DATA]
    assert night.reasons[0].startswith("Data drift: prompt topic, crypto wallets 0 % → 25 %")


def test_longer_answers_are_output_drift_and_a_quiet_night_has_no_kind(messages, reference):
    longer = drawn(messages, 400, 31, response_characters=lambda lengths: lengths + lengths.std())
    assert judge_interval(longer, reference, Drift()).kinds == [DriftKind.OUTPUT]
    assert judge_interval(drawn(messages, 400, 32), reference, Drift()).kinds == []


def test_a_verdict_that_was_kept_before_kinds_were_named_is_read(messages, reference):
    kept = judge_interval(drawn(messages, 300, 4), reference, Drift()).model_dump(mode="json", exclude={"kinds"})
    assert IntervalVerdict.model_validate(kept).kinds == []


def test_a_change_that_the_champion_was_retrained_for_fails_no_further_night_but_a_new_one_does(messages, reference):
    def share(of_four):
        return lambda topics: np.where(np.arange(len(topics)) % 4 < of_four, "crypto wallets", topics)

    learned = drawn(messages, 400, 11, prompt_topic=share(1))
    same = judge_interval(drawn(messages, 400, 12, prompt_topic=share(1)), reference, Drift(), learned=learned)
    assert (same.verdict, same.failing) == (Verdict.WARN, [])
    assert "retrained for this change" in same.reasons[0]
    more = judge_interval(drawn(messages, 400, 13, prompt_topic=share(3)), reference, Drift(), learned=learned)
    assert more.failing == [Metric.PROMPT_TOPIC]


@pytest.mark.parametrize("rows", [100, 200])
def test_a_change_that_the_replay_did_not_show_is_never_taken_for_one_that_was_learned(messages, rows):
    excused = failed = 0
    for seed in range(12):
        reference = drawn(messages, 1_500, 1_000 + seed)
        quiet_replay = drawn(messages, rows, 2_000 + seed)
        longer = drawn(messages, rows, 3_000 + seed, prompt_characters=lambda lengths: lengths + 0.5 * lengths.std())
        night = judge_interval(longer, reference, Drift(), learned=quiet_replay)
        one = verdict_on(night, "prompt_characters")
        excused += one.learned
        failed += one.verdict is Verdict.FAIL
    assert excused == 0
    assert failed >= 9


def test_a_change_that_fails_in_the_replay_is_excused_and_one_the_other_way_is_not(messages, reference):
    def accuracy(right):
        return lambda scores: (np.arange(len(scores)) % 100 < right).astype(float)

    replay = drawn(messages, 300, 21, exact_match=accuracy(60))
    same = judge_interval(drawn(messages, 300, 22, exact_match=accuracy(60)), reference, Drift(), learned=replay)
    assert verdict_on(same, "exact_match").learned
    assert same.verdict is Verdict.WARN
    worse = judge_interval(drawn(messages, 300, 23, exact_match=accuracy(20)), reference, Drift(), learned=replay)
    assert worse.failing == [Metric.EXACT_MATCH]
    unlabelled = drawn(messages, 300, 24, exact_match=lambda scores: np.full(len(scores), np.nan))
    unseen = judge_interval(drawn(messages, 300, 25, exact_match=accuracy(60)), reference, Drift(), learned=unlabelled)
    assert unseen.failing == [Metric.EXACT_MATCH]


def test_answers_going_bad_with_inputs_unchanged_fail_the_night(messages, reference):
    wrong = drawn(messages, 400, 5, exact_match=lambda scores: scores * (np.arange(len(scores)) % 5 > 0))
    night = judge_interval(wrong, reference, Drift())
    assert night.failing == [Metric.EXACT_MATCH]
    assert night.kinds == [DriftKind.CONCEPT]
    assert night.reasons[0].startswith("Concept drift: exact match, mean 0.")
    assert "while the inputs are unchanged" in night.reasons[0]
    assert verdict_on(night, "prompt_characters").verdict is Verdict.PASS


def test_a_change_in_one_channel_is_found_there(messages, reference):
    table = messages.take(np.random.default_rng(6).integers(0, len(messages), 1_000))
    app = np.array([dict(row)["channel"] == "app" for row in table["metadata"].to_pylist()])
    lengths = table["prompt_characters"].to_numpy() * np.where(app, 2, 1)
    table = table.set_column(0, "prompt_characters", pa.array(lengths, pa.int32()))
    profile = profile_of(table.to_batches(), MEASURED, ["channel"])
    night = judge_interval(profile, reference, Drift())
    assert night.worst_segment == "channel=app"
    apart = {one.segment: one.verdict for one in night.segments}
    assert apart["channel=app"] is Verdict.FAIL
    assert apart["channel=web"] is Verdict.PASS


def test_segments_and_trailing_nights_do_not_count(messages, reference):
    quiet = drawn(messages, 1_000, 7)
    before = drawn(messages, 3_000, 8, prompt_characters=lambda lengths: lengths * 2)
    night = judge_interval(quiet, reference, Drift(), before)
    assert night.verdict is Verdict.PASS
    assert {one.metric: one.verdict for one in night.trailing}["prompt_characters"] is Verdict.FAIL
    assert night.trailing_rows == 3_000


def test_too_few_rows_are_no_pass(messages, reference):
    night = judge_interval(drawn(messages, 99, 9), reference, Drift())
    assert night.verdict is Verdict.INSUFFICIENT_DATA
    assert night.reasons == ["The interval has 99 rows; 100 are needed for a verdict."]
    assert (
        judge_interval(drawn(messages, 500, 10), drawn(messages, 50, 11), Drift()).verdict is Verdict.INSUFFICIENT_DATA
    )
    nothing = Profile({})
    assert judge_interval(nothing, reference, Drift()).verdict is Verdict.INSUFFICIENT_DATA
    assert judge_interval(nothing, nothing, Drift()).verdict is Verdict.INSUFFICIENT_DATA


def test_what_neither_side_measured_is_left_out(messages, reference):
    night = judge_interval(drawn(messages, 300, 12), reference, Drift())
    assert Metric.JUDGE not in {one.metric for one in night.metrics}


def labelled(rows):
    """Leave the score to the first rows only."""
    return lambda scores: np.where(np.arange(len(scores)) < rows, scores, np.nan)


def test_a_metric_that_the_reference_has_and_the_night_lost_is_a_warning_that_says_so(messages, reference):
    night = judge_interval(drawn(messages, 300, 13, exact_match=labelled(20)), reference, Drift())
    one = verdict_on(night, "exact_match")
    assert (one.verdict, one.rows, one.reference_rows) == (Verdict.WARN, 20, 1_500)
    assert (night.verdict, night.failing) == (Verdict.WARN, [])
    assert night.reasons[0].startswith(
        "Exact match: the interval lost it, 20 of its rows and 1,500 of the reference have"
    )
    ignored = judge_interval(
        drawn(messages, 300, 13, exact_match=labelled(20)), reference, Drift(metrics={Metric.EXACT_MATCH: 0})
    )
    assert ignored.verdict is Verdict.PASS


def test_a_metric_of_which_the_night_has_as_few_as_its_rows_let_expect_is_not_lost(messages):
    rarely = drawn(messages, 1_500, 1, exact_match=labelled(300))  # a fifth
    night = judge_interval(drawn(messages, 300, 13, exact_match=labelled(60)), rarely, Drift())
    assert verdict_on(night, "exact_match").verdict is Verdict.INSUFFICIENT_DATA
    assert night.verdict is Verdict.PASS
    assert any(reason.startswith("Exact match was not judged: 60 rows of the interval") for reason in night.reasons)


def test_a_metric_may_have_its_own_floor_or_none(messages, reference):
    longer = drawn(messages, 1_000, 14, prompt_characters=lambda lengths: lengths + 0.3 * lengths.std())
    assert judge_interval(longer, reference, Drift()).verdict is Verdict.FAIL
    patient = judge_interval(longer, reference, Drift(metrics={Metric.PROMPT_CHARACTERS: 0.5}))
    assert (patient.verdict, verdict_on(patient, "prompt_characters").warn) == (Verdict.WARN, 0.25)
    deaf = judge_interval(longer, reference, Drift(metrics={Metric.PROMPT_CHARACTERS: 0}))
    assert deaf.verdict is Verdict.PASS
    assert Metric.PROMPT_CHARACTERS not in {one.metric for one in deaf.metrics}


def test_embeddings_are_judged_over_all_directions_together():
    random = np.random.default_rng(15)

    def embedded(rows, moved):
        columns = {f"prompt_embedding/{axis}": random.normal(moved * (axis < 8), 1, rows) for axis in range(16)}
        return profile_of([pa.record_batch(columns)], list(columns))

    reference = embedded(1_500, 0)
    assert judge_interval(embedded(400, 0), reference, Drift()).verdict is Verdict.PASS
    night = judge_interval(embedded(400, 0.8), reference, Drift())
    assert [(one.metric, one.verdict) for one in night.metrics] == [(Metric.PROMPT_EMBEDDING, Verdict.FAIL)]
    assert night.metrics[0].effect == pytest.approx(0.4, abs=0.1)


def test_a_night_is_judged_the_same_every_time_and_from_its_parts(messages, reference):
    whole = drawn(messages, 500, 16)
    once = judge_interval(whole, reference, Drift())
    assert judge_interval(merge([whole]), reference, Drift()) == once
    assert IntervalVerdict.model_validate_json(once.model_dump_json()) == once


def test_hostile_names_are_words_on_one_line(messages, reference):
    def hostile(topics):
        return np.where(np.arange(len(topics)) % 2 == 0, "\x1b[2J\u202e<script>" + "x" * 500 + "\n", topics)

    night = judge_interval(drawn(messages, 300, 17, prompt_topic=hostile), reference, Drift())
    assert all(reason.isprintable() and len(reason) < 400 for reason in night.reasons)


def test_one_endless_prompt_does_not_fail_a_night(messages, reference):
    def endless(lengths):
        return np.append(lengths[1:], 1_000_000)

    assert (
        judge_interval(drawn(messages, 300, 18, prompt_characters=endless), reference, Drift()).verdict is Verdict.PASS
    )


def test_profiles_of_different_kinds_are_refused(reference):
    wrong = Profile({(ALL_ROWS, "prompt_topic"): Numbers(np.array([0], np.int32), np.array([200]))})
    with pytest.raises(TypeError, match="prompt_topic"):
        judge_interval(wrong, reference, Drift())
