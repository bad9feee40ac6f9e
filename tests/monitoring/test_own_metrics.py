"""Metrics of a team's own scorers: profiled and judged like ours, and never compared across versions of a scorer."""

from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.data.interactions import UNSCORED, interaction_schema
from nightshift.monitoring.failures import count_unscored
from nightshift.monitoring.own_metrics import categorical_in, measured_alike, own_metrics, scored_apart
from nightshift.monitoring.profiles import merge, profile_of, read_batches, read_profile, write_profile
from nightshift.monitoring.verdicts import judge_interval
from nightshift.settings.application import Application
from nightshift.settings.metrics import CATEGORICAL, DriftKind, Metric
from nightshift.settings.policies import Drift
from nightshift.settings.scorers import Scorer
from nightshift.storage.manifest import Manifest
from nightshift.verdict import Verdict

POLITENESS = Metric("politeness", "quality", "kind words")
TONE = Metric("tone", "scores", categorical=True)
OWN = {POLITENESS: "", TONE: ""}
ROWS = 400


@pytest.fixture
def profiled(tmp_path):
    """A function that profiles a night by way of its files; without a mean, politeness failed on every row."""

    def profile(seed, mean=0.5, curt=0.3, failed=0):
        random = np.random.default_rng(seed)
        tones = ["curt" if one else "warm" for one in random.random(ROWS) < curt]
        missing = np.arange(ROWS) < (ROWS if mean is None else failed)
        reasons = [{"politeness": "failed" if one else None} for one in missing]
        schema = interaction_schema(list(OWN))
        table = pa.table(
            {
                "prompt_characters": random.integers(10, 200, ROWS),
                "politeness": pa.array(random.normal(mean or 0, 0.2, ROWS).astype(np.float32), mask=missing),
                "tone": pa.array(tones),
                UNSCORED: pa.array(reasons, schema.field(UNSCORED).type),
            }
        )
        pq.write_table(table, tmp_path / "rows.parquet")
        categorical = CATEGORICAL | {"tone"}
        columns = ["prompt_characters", "politeness", "tone"]
        batches = read_batches(tmp_path / "rows.parquet", columns, categorical=categorical)
        measured = merge([profile_of(batches, columns, (), categorical), count_unscored(tmp_path / "rows.parquet")])
        write_profile(measured, tmp_path / "profile.parquet")
        return read_profile(tmp_path / "profile.parquet", categorical)

    return profile


def verdicts_of(night):
    return {one.metric: one.verdict for one in night.metrics}


def test_a_night_whose_own_scores_stay_passes_and_one_whose_own_scores_move_fails(profiled):
    reference = profiled(1)
    quiet = judge_interval(profiled(2), reference, Drift(), own=OWN)
    assert verdicts_of(quiet) == dict.fromkeys(["prompt_characters", "politeness", "tone"], Verdict.PASS)
    ruder = judge_interval(profiled(3, mean=0.3, curt=0.8), reference, Drift(), own=OWN)
    assert set(ruder.failing) == {"politeness", "tone"}
    assert any("kind words, mean 0.4" in reason for reason in ruder.reasons)
    assert any("tone, curt 3" in reason for reason in ruder.reasons)
    # Quality that moves while the inputs do not is concept drift; the other is output drift.
    assert set(ruder.kinds) == {DriftKind.CONCEPT, DriftKind.OUTPUT}


def test_a_floor_of_its_own_and_the_floor_nought_count_for_an_own_metric(profiled):
    night, reference = profiled(4, mean=0.4), profiled(5)
    assert judge_interval(night, reference, Drift(), own=OWN).failing == ["politeness"]
    patient = judge_interval(night, reference, Drift(metrics={"politeness": 2.0}), own=OWN)
    assert patient.verdict is Verdict.PASS
    assert "politeness" not in verdicts_of(judge_interval(night, reference, Drift(metrics={"politeness": 0}), own=OWN))


def test_an_own_scorer_that_fails_more_often_than_in_the_reference_is_a_warning(profiled):
    night = judge_interval(profiled(6, failed=40), profiled(7), Drift(), own=OWN)
    assert (night.verdict, night.worst) == (Verdict.WARN, POLITENESS)
    assert night.reasons[0].startswith("Kind words: the scorer failed on 10 % of 400 rows, 0 % in the reference")


def test_an_own_scorer_that_never_gave_a_value_is_no_silent_pass(profiled):
    night = judge_interval(profiled(8, mean=None), profiled(9, mean=None), Drift(), own=OWN)
    assert night.verdict is Verdict.WARN
    assert night.reasons[0] == "Kind words: the scorer failed on all of 400 rows, in the reference as well."
    silent = profiled(8, mean=None).without({"politeness", "politeness/failed"})
    assert verdicts_of(judge_interval(silent, silent, Drift(), own=OWN))["politeness"] is Verdict.INSUFFICIENT_DATA


def test_what_cannot_be_compared_is_a_warning_with_its_reason_however_far_it_moved(profiled):
    night = judge_interval(profiled(10, mean=5.0), profiled(11), Drift(), own={POLITENESS: "another version", TONE: ""})
    assert (night.verdict, night.failing) == (Verdict.WARN, [])
    assert night.reasons[0] == "Kind words: another version."


def test_scores_of_another_version_are_not_compared_and_one_sentence_says_so(profiled):
    night, reference = profiled(12), profiled(13)
    scores = dict.fromkeys((Metric.TOXICITY, Metric.SENTIMENT), "made by another version")
    for profile in (night, reference):
        for metric in scores:
            profile.distributions["", metric] = profile.get("politeness")
    told = judge_interval(night, reference, Drift(), own=OWN | scores)
    assert (told.verdict, told.failing) == (Verdict.WARN, [])
    assert told.reasons[0] == "Sentiment and toxicity: made by another version."
    assert verdicts_of(told)["politeness"] is Verdict.PASS


def test_a_share_that_hardly_differs_in_the_reference_is_not_measured_in_tiny_units():
    share = Scorer(function="tone:polite", kind="share").metric("polite")
    bounded = Scorer(function="tone:polite", min=0, max=50).metric("polite")
    assert (share.smallest_deviation, bounded.smallest_deviation) == (0.1, 5.0)


def partition(**scorers):
    made = {"scorers": {name: one.made_by for name, one in scorers.items()}} if scorers else {}
    return Manifest(
        kind="interactions", application="shop", inputs=made, inputs_digest="", files=[], code_version="",
        created=datetime(2026, 11, 2, tzinfo=UTC),
    )  # fmt: skip


NOW = Scorer(function="tone:tone", kind="category", digest="a" * 64)
BEFORE = NOW.model_copy(update={"digest": "b" * 64})


@pytest.mark.parametrize(
    ("night", "reference", "why"),
    [
        ({"tone": NOW}, {"tone": NOW}, {"tone": ""}),
        ({"tone": BEFORE}, {"tone": BEFORE}, {"tone": ""}),  # of before both
        ({"tone": NOW}, {"tone": BEFORE}, {"tone": "scored by different versions of the scorer; the next finetune"}),
        (
            {"tone": BEFORE},
            {"tone": NOW},
            {"tone": "different versions of the scorer; run batch_inference for this interval"},
        ),
        ({"tone": NOW}, {}, {"tone": "its scorer was added after the reference was made; the next finetune"}),
        ({}, {"tone": NOW}, {}),  # nobody expected a value
        ({}, {}, {}),
    ],
)
def test_only_what_one_version_of_a_scorer_made_is_compared(night, reference, why):
    application = SimpleNamespace(own_metrics=[NOW.metric("tone")], scorers={"tone": NOW})
    found = own_metrics(application, partition(**night), partition(**reference))
    assert set(found) == set(why)
    assert all(why[metric] in said if why[metric] else said == "" for metric, said in found.items())
    alike = measured_alike(partition(**night), partition(**reference))
    assert alike == [metric for metric, said in found.items() if not said]


@pytest.mark.parametrize(
    ("night", "reference", "why"),
    [
        ({"tone": "given up after 3 failures"}, {}, "its scorer was given up after 3 failures; the log of the task score"),
        ({}, {"tone": "given up after 3 failures"}, "in the reference its scorer was given up after 3 failures; once its module"),
    ],
)  # fmt: skip
def test_a_scorer_that_was_given_up_is_not_compared_and_a_warning(profiled, night, reference, why):
    application = SimpleNamespace(own_metrics=[NOW.metric("tone")], scorers={"tone": NOW})
    sides = [partition(tone=NOW).model_copy(update={"facts": {"given_up": said}}) for said in (night, reference)]
    own = own_metrics(application, *sides)
    judged = judge_interval(profiled(12), profiled(13), Drift(), own=own)
    assert judged.verdict is Verdict.WARN
    assert judged.reasons[0].startswith(f"Tone: {why}")


JUDGE = {"url": "http://one/v1", "model": "m", "rubric": "It answers the question.", "rows_per_night": 200}


@pytest.mark.parametrize(
    ("night", "reference", "why"),
    [
        ({}, {"rows_per_night": 500, "timeout_seconds": 9}, None),
        ({"rubric": "It is short and to the point."}, {}, "run batch_inference for this interval again"),
        ({}, {"model": "n"}, "the next finetune"),
        ({}, {"shown": 1}, "the next finetune"),  # an earlier version, which showed no conversation
        ({}, None, None),  # nothing was judged then
    ],
)
def test_what_another_judge_or_rubric_scored_is_not_compared(night, reference, why):
    application = Application(name="shop", judge=JUDGE, sources=[{"uri": "a.csv", "columns": {"prompt": "q"}}])
    sides = [
        partition().model_copy(update={"inputs": {"judge": None if one is None else application.judged_by | one}})
        for one in (night, reference)
    ]
    found = scored_apart(application, *sides)
    assert list(found) == (["judge"] if why else [])
    assert all(said.endswith(f"; {why}") or why in said for said in found.values())


@pytest.mark.parametrize(
    ("night", "reference", "chosen", "why"),
    [
        ({}, {}, "float32", None),
        ({"precision": "bfloat16"}, {"precision": "bfloat16"}, "float32", None),
        ({}, {"precision": "bfloat16"}, "bfloat16", "in float32, the reference in bfloat16; run batch_inference"),
        ({"precision": "bfloat16"}, {}, "bfloat16", "in bfloat16, the reference in float32; the next finetune"),
    ],
)
def test_refusal_and_toxicity_of_another_precision_are_not_compared(night, reference, chosen, why):
    settings = {"sources": [{"uri": "a.csv", "columns": {"prompt": "q"}}], "scoring": {"precision": chosen}}
    application = Application.model_validate({"name": "shop", **settings})
    found = scored_apart(
        application, *(partition().model_copy(update={"inputs": inputs}) for inputs in (night, reference))
    )
    assert sorted(found) == (["refusal", "toxicity"] if why else [])
    assert all(why in said for said in found.values())


def test_a_label_and_a_group_may_change_without_another_reference():
    renamed = NOW.model_copy(update={"label": "the tone", "group": "quality"})
    assert renamed.made_by == NOW.made_by
    assert NOW.model_copy(update={"kind": "number"}).made_by != NOW.made_by


def test_profiles_of_before_own_scorers_are_read_as_they_are():
    assert categorical_in(partition()) == CATEGORICAL
    assert categorical_in(partition(tone=NOW)) == CATEGORICAL | {"tone"}
