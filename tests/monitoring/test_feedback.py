"""What people say is a metric of the night: enough bad judgements are drift, and no judgement is no pass."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from nightshift.errors import BadInput
from nightshift.monitoring.due_intervals import Answered, due, inputs_of
from nightshift.monitoring.feedback import feedback_of, feedback_verdicts, with_feedback
from nightshift.monitoring.profiles import profile_of
from nightshift.monitoring.verdicts import judge_interval
from nightshift.settings.application import Application
from nightshift.settings.interval import Interval
from nightshift.settings.metrics import DriftKind, Metric
from nightshift.settings.policies import Drift
from nightshift.storage.files import scratch
from nightshift.storage.partition import partition_of, publish
from nightshift.verdict import Verdict

DAY = Interval(start=datetime(2026, 11, 2, tzinfo=UTC), end=datetime(2026, 11, 3, tzinfo=UTC))


def said(judged, bad, ratings=()):
    numbers = np.array(ratings, float)
    return {
        "judged": judged,
        "bad": bad,
        "rated": len(ratings),
        "rating_sum": numbers.sum(),
        "rating_squares": (numbers**2).sum(),
    }


def verdict_of(metric, of, **policy):
    found = {one.metric: one for one in feedback_verdicts(of, Drift(**policy), rated=True)}
    return found[metric].verdict


@pytest.mark.parametrize(
    ("judged", "bad", "verdict"),
    [
        (0, 0, Verdict.INSUFFICIENT_DATA),
        (99, 99, Verdict.INSUFFICIENT_DATA),
        (200, 10, Verdict.PASS),
        (200, 25, Verdict.PASS),  # an eighth, which a tenth gives by chance
        (200, 30, Verdict.WARN),
        (200, 60, Verdict.FAIL),
    ],
)
def test_a_share_of_bad_judgements_beyond_chance_is_drift_and_few_judgements_are_no_pass(judged, bad, verdict):
    assert verdict_of(Metric.BAD_FEEDBACK, said(judged, bad)) is verdict


def test_a_low_mean_rating_is_drift_and_without_any_there_is_no_pass():
    assert verdict_of(Metric.MEAN_RATING, {}) is Verdict.INSUFFICIENT_DATA
    for stars, verdict in ((0.9, Verdict.PASS), (0.6, Verdict.WARN), (0.3, Verdict.FAIL)):
        assert verdict_of(Metric.MEAN_RATING, said(100, 0, [stars, stars + 0.05] * 50)) is verdict


def test_an_application_sets_its_own_floors_or_leaves_a_metric_out():
    assert verdict_of(Metric.BAD_FEEDBACK, said(200, 60), metrics={"bad_feedback": 0.8}) is Verdict.PASS
    verdicts = feedback_verdicts(said(200, 60), Drift(metrics={"bad_feedback": 0, "mean_rating": 0}), rated=True)
    assert verdicts == []


def test_a_night_like_the_reference_fails_for_what_people_said_of_it():
    random = np.random.default_rng(0)
    reference, night = (
        profile_of(
            pa.table(
                {
                    "prompt_characters": random.integers(10, 90, 500),
                    "metadata": pa.array([[]] * 500, pa.map_(pa.string(), pa.string())),
                }
            ).to_batches(),
            ["prompt_characters"],
            [],
        )
        for _ in range(2)
    )
    policy = Drift()
    assert judge_interval(night, reference, policy).verdict is Verdict.PASS
    verdict = judge_interval(night, reference, policy, feedback=feedback_verdicts(said(200, 80), policy, rated=True))
    assert (verdict.verdict, verdict.failing, verdict.kinds) == (Verdict.FAIL, ["bad_feedback"], [DriftKind.CONCEPT])
    assert "bad feedback, 40% of 200 judgements" in verdict.reasons[0]
    assert "Mean rating was not judged: people judged 0 answers; 100 are needed." in verdict.reasons


def test_a_night_is_judged_by_what_was_said_of_its_own_model_and_again_when_more_was_said(tmp_path):
    storage = tmp_path.as_uri()
    sources = [{"uri": "rows.jsonl", "columns": {"prompt": "text", "id": "message"}}]
    feedback = {"sources": [{"uri": "said.jsonl", "columns": {"id": "message", "thumb": "vote"}}]}
    app = Application(name="bank", sources=sources, feedback=feedback)
    at = partition_of(storage, "bank", "feedback", DAY.key)
    night = Answered(partition_of(storage, "bank", "interactions", DAY.key), "digest", DAY, "new")
    (unsaid,) = with_feedback(storage, app, [night])
    (nothing,) = feedback_of(storage, app, unsaid, "new")
    assert nothing.verdict is Verdict.INSUFFICIENT_DATA

    publish(at, scratch(at), kind="feedback", application="bank", inputs={}, interval=DAY,
            facts={"models": {"old": said(200, 200), "new": said(200, 2)}})  # fmt: skip
    (known,) = with_feedback(storage, app, [night])
    (bad,) = feedback_of(storage, app, known, "new")
    assert (bad.verdict, bad.rows) == (Verdict.PASS, 200)
    judged = inputs_of("digest", "reference", app, known.feedback)
    assert judged != inputs_of("digest", "reference", app)

    publish(at, scratch(at), kind="feedback", application="bank", inputs={"given_up": True}, interval=DAY,
            facts={"models": {"old": said(200, 200), "new": said(200, 2)}})  # fmt: skip
    (given_up,) = with_feedback(storage, app, [night])
    of_before = inputs_of("digest", "reference", app, given_up.feedback_partition)
    for verdict in (judged, of_before):  # also one of an earlier version, which named the partition
        assert due([given_up], {DAY.key: [verdict]}, "new", {"new": "reference"}, app) == []
    publish(at, scratch(at), kind="feedback", application="bank", inputs={"late": True}, interval=DAY,
            facts={"models": {"new": said(200, 3)}})  # fmt: skip
    assert due(with_feedback(storage, app, [night]), {DAY.key: [judged]}, "new", {"new": "reference"}, app)
    with pytest.raises(BadInput, match="people said more"):
        feedback_of(storage, app, given_up, "new")

    (at / "manifest.json").write_text("{")
    (unreadable,) = with_feedback(storage, app, [night])
    with pytest.raises(BadInput, match="manifest"):
        feedback_of(storage, app, unreadable, "new")
