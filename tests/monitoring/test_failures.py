"""Scores that are missing: a scorer that fails is found, and what was not sampled or does not apply is none of that."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.data.interactions import INTERACTION_SCHEMA, UNSCORED
from nightshift.monitoring.failures import count_unscored
from nightshift.monitoring.profiles import merge, profile_of
from nightshift.monitoring.verdicts import judge_interval
from nightshift.settings.metrics import Metric
from nightshift.settings.policies import Drift
from nightshift.verdict import Verdict

ROWS = 1_000
SCORED = ("toxicity", "judge", "exact_match")


@pytest.fixture
def profiled(tmp_path):
    """A function that profiles a file of rows, some of whose scores are missing for a reason: score -> (reason, rows)."""

    def profile(seed, rows=ROWS, *, reasons=True, **missing):
        random = np.random.default_rng(seed)
        columns = {"prompt_characters": random.integers(10, 200, rows).astype(np.float32)}
        unscored = [dict.fromkeys(SCORED) for _ in range(rows)]
        for score in SCORED:
            reason, count = missing.get(score, ("", 0))
            values = (random.random(rows) < 0.9).astype(np.float32)
            for row in random.choice(rows, count, replace=False):
                unscored[row][score] = reason
            kept = [row[score] is None for row in unscored]
            columns[score] = pa.array(np.where(kept, values, 0), mask=~np.array(kept))
        table = pa.table(columns)
        if reasons:
            table = table.append_column(UNSCORED, pa.array(unscored, INTERACTION_SCHEMA.field(UNSCORED).type))
        file = tmp_path / "rows.parquet"
        pq.write_table(table, file)
        return merge([profile_of(table.to_batches(), ["prompt_characters", *SCORED]), count_unscored(file)])

    return profile


def verdict_on(night, metric):
    return next(one for one in night.metrics if one.metric is metric)


@pytest.mark.parametrize(("failed", "said"), [(970, "97 %"), (990, "99 %"), (1_000, "100 %")])
def test_a_dead_scorer_does_not_pass_and_is_named(profiled, failed, said):
    night = judge_interval(profiled(1, toxicity=("failed", failed)), profiled(2), Drift())
    assert night.verdict is Verdict.WARN
    assert night.reasons[0].startswith(
        f"Toxicity: the scorer failed on {said} of 1,000 rows, 0 % in the reference; the interval lost it"
    )


def test_one_failure_in_fifty_is_named_and_one_in_a_thousand_is_not(profiled):
    assert judge_interval(profiled(3, toxicity=("failed", 20)), profiled(4), Drift()).verdict is Verdict.WARN
    assert judge_interval(profiled(5, toxicity=("failed", 1)), profiled(6), Drift()).verdict is Verdict.PASS


def test_a_scorer_that_fails_as_often_as_in_the_reference_is_no_news(profiled):
    night = judge_interval(profiled(7, judge=("failed", 150)), profiled(8, judge=("failed", 160)), Drift())
    assert night.verdict is Verdict.PASS


def test_rows_that_were_not_sampled_or_have_no_reference_answer_are_no_failures(profiled):
    missing = {"judge": ("not_sampled", 800), "exact_match": ("not_applicable", 500)}
    night = judge_interval(profiled(9, **missing), profiled(10), Drift())
    assert night.verdict is Verdict.PASS


def test_a_night_in_a_language_that_a_scorer_does_not_know_lost_its_score(profiled):
    night = judge_interval(profiled(17, toxicity=("not_applicable", 950)), profiled(18), Drift())
    assert night.verdict is Verdict.WARN
    assert night.reasons[0].startswith(
        "Toxicity: the interval lost it, 50 of its rows and 1,000 of the reference have it"
    )
    assert night.reasons[0].endswith("; to 950 of them it does not apply.")


def test_an_application_in_a_language_that_a_scorer_does_not_know_passes_and_says_so(profiled):
    never = {"toxicity": ("not_applicable", ROWS)}
    night = judge_interval(profiled(19, **never), profiled(20, **never), Drift())
    assert (night.verdict, verdict_on(night, Metric.TOXICITY).verdict) == (Verdict.PASS, Verdict.INSUFFICIENT_DATA)
    assert night.reasons[-1] == "Toxicity: no value for 1,000 of 1,000 rows, whose language the scorer does not know."
    some = {"toxicity": ("not_applicable", 400)}
    night = judge_interval(profiled(21, **some), profiled(22, **some), Drift())
    assert (night.verdict, verdict_on(night, Metric.TOXICITY).rows) == (Verdict.PASS, 600)
    assert night.reasons[-1].startswith("Toxicity: no value for 400 of 1,000 rows")
    few = judge_interval(profiled(23, toxicity=("not_applicable", 10)), profiled(24), Drift())
    assert "no value" not in few.reasons[-1]


def test_no_failure_of_a_scorer_orders_a_retraining(profiled):
    night = judge_interval(profiled(11, toxicity=("failed", 1_000)), profiled(12), Drift())
    assert (night.failing, night.worst) == ([], Metric.TOXICITY)


def test_a_metric_that_drifted_keeps_its_fail_where_its_scorer_fails_too(profiled):
    half = profiled(13, toxicity=("failed", 500))
    low = merge([half])
    low.distributions["", "toxicity"] = type(half.get("toxicity"))(
        half.get("toxicity").cells, half.get("toxicity").counts[::-1].copy(), half.get("toxicity").missing
    )
    night = judge_interval(low, profiled(14), Drift())
    assert night.failing == [Metric.TOXICITY]
    assert night.reasons[0].startswith("Toxicity: the scorer failed on 50 % of 1,000 rows")
    assert night.reasons[1].startswith("Output drift: toxicity, mean 0.")


def test_a_night_that_was_scored_before_reasons_were_kept_is_read_and_has_no_failures(profiled):
    old = profiled(15, exact_match=("not_applicable", 300), reasons=False)
    night = judge_interval(old, profiled(16), Drift())
    assert (night.verdict, verdict_on(night, Metric.EXACT_MATCH).rows) == (Verdict.PASS, 700)
