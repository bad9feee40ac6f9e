"""A release looks for the candidate's shadow where it lies in storage: without one, or with a failed one, nothing is released."""

import shutil
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from release_tasks import FORM, registered
from retraining_tasks import context
from upath import UPath

from nightshift.evaluation.estimates import Estimate
from nightshift.evaluation.shadow_file import REPORT, SHADOW, ShadowFile, shadow_partition
from nightshift.jobs import register
from nightshift.orchestration import release
from nightshift.settings.interval import Interval
from nightshift.storage.files import scratch
from nightshift.storage.partition import partition_of, publish
from nightshift.verdict import Verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shown")]


class Shadowed:
    """A champion that answered a night, and a candidate that was judged against it."""

    def __init__(self, judged, progress):
        self.releases, self._progress, self._judged = registered(judged(seed=1), progress), progress, judged
        self.name, self.storage = self.releases.name, self.releases.storage
        self.releases.run()
        self.champion = self.releases.ledger.newest_release().model_digest
        self.spec = judged(seed=2)
        register.run(self.spec, progress)

    def answered(self):
        start = datetime(2026, 11, 3, tzinfo=UTC)
        interval = Interval(start=start, end=start + timedelta(days=1))
        at = partition_of(self.storage, self.name, "interactions", interval.key)
        folder = scratch(UPath(self.storage))
        (folder / "rows").write_text("planted")
        publish(
            at, folder, kind="interactions", application=self.name, inputs={}, interval=interval,
            facts={"model_digest": self.champion},
        )  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)

    def shadow(self, verdict, *, inputs=1):
        """What the job `shadow` would publish."""
        file = ShadowFile(
            application=self.name, version="2", champion="1", verdict=verdict, reasons=[f"shadow: {verdict} on 120 prompts"],
            answered=120, prompts=120, metric="exact_match", difference=Estimate(value=0.1, low=0.02, high=0.2), margin=0.05,
            level=0.05, look=1, looks=4, means={"exact_match": (0.4, 0.5), "latency_ms": (20.0, 31.5)},
        )  # fmt: skip
        folder = scratch(UPath(self.storage))
        (folder / SHADOW).write_text(file.model_dump_json())
        (folder / REPORT).write_text("side by side")
        at = shadow_partition(self.storage, self.releases.application, self.spec.model_digest, self.champion)
        publish(
            at, folder, kind="shadow", application=self.name, inputs={"planted": inputs}, facts={"verdict": verdict}
        )
        shutil.rmtree(folder, ignore_errors=True)

    def challenge(self):
        return release.challenge.function(self.name, **context("run", params=FORM))


@pytest.fixture
def shadowed(judged, progress):
    return Shadowed(judged, progress)


def test_a_champion_that_answered_nothing_casts_no_shadow(shadowed):
    with pytest.raises(
        AirflowSkipException, match="version 1, the champion, did not answer any of the newest 7 intervals"
    ):
        shadowed.challenge()
    decision, moved = shadowed.releases.run()
    assert (decision.verdict, moved["version"]) == (Verdict.PASS, "2")
    assert "no shadow" in decision.reasons[-1]


def test_without_its_shadow_a_candidate_is_not_released_and_with_one_that_passed_it_is(shadowed):
    shadowed.answered()
    challenged = shadowed.challenge()
    assert (challenged["model_digest"], challenged["champion_digest"]) == (
        shadowed.spec.model_digest,
        shadowed.champion,
    )
    decision, moved = shadowed.releases.run()
    assert (decision.released, moved["version"]) == (False, None)
    assert "has not ended" in decision.reasons[0]
    shadowed.shadow(Verdict.PASS)
    with pytest.raises(AirflowSkipException, match="ended: PASS"):
        shadowed.challenge()
    decision, moved = shadowed.releases.run()
    assert (decision.verdict, decision.reasons[-1]) == (Verdict.PASS, "shadow: PASS on 120 prompts")
    assert moved["version"] == shadowed.releases.champion == "2"
    kept = shadowed.releases.gate_records()[-1]
    assert kept.numbers["difference in exact match on logged prompts, low"] == 0.02


@pytest.mark.parametrize(
    ("verdict", "helps"), [(Verdict.FAIL, False), (Verdict.WARN, True)], ids=["failed", "doubtful"]
)
def test_a_reason_helps_against_doubt_only(shadowed, verdict, helps):
    shadowed.answered()
    shadowed.shadow(verdict)
    decision, moved = shadowed.releases.run()
    assert (decision.verdict, decision.ask, moved["version"]) == (verdict, False, None)
    assert decision.reasons[-1] == f"shadow: {verdict} on 120 prompts"
    _, moved = shadowed.releases.run(reason="the page was read")
    assert (moved["version"] == "2") is helps


def test_too_little_to_compare_is_put_to_people_with_what_is_known(shadowed):
    shadowed.answered()
    shadowed.shadow(Verdict.INSUFFICIENT_DATA)
    assert shadowed.challenge()["version"] == "2", "there may be more prompts by now"
    asked = shadowed.releases.ask()
    assert (asked.verdict, asked.ask) == (Verdict.INSUFFICIENT_DATA, True)
    assert asked.subject.endswith("Gate and shadow say INSUFFICIENT_DATA")
    assert "| exact match | 40.0 | 50.0 |" in asked.body
    moved = shadowed.releases.promote(asked, "approved", by="alice", answered=datetime.now(UTC))
    assert moved["version"] == "2"
