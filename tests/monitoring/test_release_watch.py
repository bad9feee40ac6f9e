"""The first intervals of a release are looked at once each, with what its shadow measured, and never again."""

import shutil
from datetime import UTC, datetime

import logged_intervals
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from logged_intervals import TRAINED_ON, application, asked
from upath import UPath

from nightshift.evaluation.shadow_file import PAIRS, SHADOW, ShadowFile, shadow_partition
from nightshift.evaluation.watch_file import newest_look
from nightshift.ledger.records import Release
from nightshift.monitoring import release_watch
from nightshift.monitoring.release_watch import watch_release
from nightshift.settings.split import Split
from nightshift.settings.watch import Watch
from nightshift.storage.files import scratch
from nightshift.storage.partition import partition_of, publish
from nightshift.verdict import Verdict

publish_day, storage, night = logged_intervals.publish_day, logged_intervals.storage, logged_intervals.night
BEFORE, NEW = "b" * 64, "c" * 64
DAYS = ("2026-11-03", "2026-11-04", "2026-11-05", "2026-11-06")


def released(*models):
    at = datetime(2026, 11, 2, tzinfo=UTC)
    return [
        Release(
            number=number, version=str(number), model_digest=model, released=at, evaluation="s3://gone/evaluations/e"
        )
        for number, model in enumerate(models, 1)
    ]


@pytest.fixture
def watched(storage, night):
    return Watched(storage, night)


class Watched:
    """A version with a shadow of 200 prompts, of which it answered 160 rightly, and its first intervals."""

    def __init__(self, storage, night):
        self.storage, self.night, self.nights = storage, night, []
        self.app = application(watch=Watch(min_rows=50))
        self.publish(
            shadow_partition(storage, self.app, NEW, BEFORE), "shadow", shadow=ShadowFile(
                application="app", version="2", champion="1", verdict=Verdict.PASS, reasons=[], answered=200, prompts=200,
                metric="exact_match", difference=None, margin=0.05, level=0.05, look=1, looks=1, means={},
            ),
        )  # fmt: skip

    def publish(self, at, kind, shadow=None, **facts):
        folder = scratch(UPath(self.storage))
        (folder / SHADOW).write_text(shadow.model_dump_json() if shadow else "planted")
        if shadow:
            scores = {"candidate_score": [float(n < 160) for n in range(200)], "candidate_valid": [1.0] * 200}
            scores["candidate_latency_ms"] = [15.0] * 200
            pq.write_table(pa.table({"unit": [str(n) for n in range(200)], **scores}), folder / PAIRS)
        publish(at, folder, kind=kind, application="app", inputs={"planted": str(at)}, facts=facts)
        shutil.rmtree(folder, ignore_errors=True)

    def interval(self, day, right, verdict="PASS", kinds=(), judged=True):
        """An interval of 101 rows, one of which was trained on, with its verdict."""
        self.nights.append(self.night(day, [*asked(100), (TRAINED_ON, "user 99")], model=NEW, right=right))
        if judged:
            self.judge(day, verdict, kinds)

    def judge(self, day, verdict="PASS", kinds=()):
        self.publish(
            partition_of(self.storage, "app", "drift", day, "d"),
            "drift",
            model_digest=NEW,
            verdict=verdict,
            kinds=list(kinds),
        )

    def look(self, *models):
        releases = released(*(models or (BEFORE, NEW)))
        watch_release(self.app, self.storage, releases, self.nights)
        return newest_look(self.storage, "app", len(releases))


def test_each_interval_adds_a_look_at_all_rows_that_nothing_was_trained_on(watched):
    assert watched.look() is None
    watched.interval(DAYS[0], 79)
    first = watched.look()
    (quality, valid) = first.measures
    assert (first.verdict, first.intervals, first.of, first.promised_by) == (Verdict.PASS, [DAYS[0]], 3, "shadow")
    assert (quality.metric, quality.rows, quality.promised_rows) == ("exact_match", 100, 200)
    assert (quality.promised, quality.measured, valid.measured) == pytest.approx((0.8, 0.79, 1.0))
    assert watched.look() == first
    for day in DAYS[1:]:
        watched.interval(day, 82)
    last = watched.look()
    assert (last.intervals, last.measures[0].rows) == (list(DAYS[:3]), 300), "a fourth interval is not watched"


def test_the_guard_rails_of_the_split_hold_after_the_release_too(watched):
    watched.app = watched.app.model_copy(update={"split": Split(latency_ms=18)})
    watched.interval(DAYS[0], 79)  # each of whose answers took 20 ms
    found = watched.look()
    in_time = found.measures[-1]
    assert (in_time.metric, in_time.promised, in_time.measured, in_time.rows) == ("in_time", 1.0, 0.0, 100)
    assert (found.verdict, found.reasons[0].split(" in ")[0]) == (Verdict.FAIL, "share")


def test_a_breach_ends_the_watch_and_stands_although_later_intervals_are_good(watched):
    watched.interval(DAYS[0], 50)
    broken = watched.look()
    assert broken.verdict is Verdict.FAIL
    assert broken.reasons[0].startswith("exact match 50.0% in 100 rows against promised 80.0% in 200: -30.0 points")
    watched.interval(DAYS[1], 100)
    assert watched.look() == broken


def test_an_interval_whose_prompts_drifted_says_nothing_about_the_release(watched):
    watched.interval(DAYS[0], 20, "FAIL", ["data drift", "output drift"])
    found = watched.look()
    assert (found.verdict, found.drifted, found.measures) == (Verdict.INSUFFICIENT_DATA, [DAYS[0]], [])
    watched.interval(DAYS[1], 20, "FAIL", ["output drift"])
    assert watched.look().verdict is Verdict.FAIL


def test_an_interval_without_a_verdict_waits_for_it(watched):
    watched.interval(DAYS[0], 80, judged=False)
    assert watched.look() is None
    watched.judge(DAYS[0])
    assert watched.look().intervals == [DAYS[0]]


def test_an_earlier_champion_that_comes_back_is_not_watched(watched):
    watched.interval(DAYS[0], 20)
    assert watched.look(NEW, BEFORE, NEW) is None


def test_without_a_shadow_its_evaluation_is_the_promise_and_without_that_nothing_passes(watched):
    watched.interval(DAYS[0], 20)
    found = watched.look(NEW)
    assert (found.promised_by, found.verdict, found.measures) == ("evaluation", Verdict.INSUFFICIENT_DATA, [])


def test_killed_before_a_look_is_published_it_looks_again_and_what_is_published_stands(watched, monkeypatch):
    watched.interval(DAYS[0], 79)
    with monkeypatch.context() as kill:
        kill.setattr(release_watch, "publish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            watched.look()
    first = watched.look()
    watched.nights.clear()
    watched.interval(DAYS[0], 20)  # made again, with other answers
    assert watched.look() == first
