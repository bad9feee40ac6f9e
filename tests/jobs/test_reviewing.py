"""The review: which answers people are shown, and what becomes of what they say."""

import shutil
from datetime import UTC, datetime

import pytest
from desk import KEY, QUESTIONS, desk
from pydantic import ValidationError
from upath import UPath

from nightshift.data.examples import EXAMPLES
from nightshift.data.feedback import FEEDBACK, WAITING
from nightshift.data.interactions import INTERACTIONS
from nightshift.data.normalise import stored_id
from nightshift.data.review_sample import SAMPLE, SAMPLES
from nightshift.erasure.applying import apply
from nightshift.erasure.finding import Finding
from nightshift.erasure.target import ErasureTarget
from nightshift.evaluation.suites import corrected_examples
from nightshift.ledger.records import Review
from nightshift.ledger.reviews import keep, reviews_of
from nightshift.settings.feedback import Feedback
from nightshift.storage import partition as partitions
from nightshift.storage.files import scratch
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import partition_of
from nightshift.verdict import Verdict

__all__ = ["desk"]

pytestmark = pytest.mark.usefixtures("mlflow_store")

NIGHT = "2026-11-03"
SCORES = [
    {"judge": judge, "valid": 1.0, "retrieval_relevance": near} for judge, near in zip(
        (0.9, 0.0, 0.52, 0.8, 0.95, 1.0, 0.9, 0.85), (0.9, 0.8, 0.7, 0.05, 0.6, 0.9, 0.8, 0.7), strict=True)
]  # fmt: skip


@pytest.fixture
def branch(desk):
    """An application whose night was answered, and of which four answers are put to people."""
    office = desk(review={"rows": 4})
    office.answered(NIGHT, scores=SCORES)
    assert office.said(NIGHT, []).to_review == 4
    return office


def sampled(branch):
    return {row["chosen"]: row for row in branch.rows(partition_of(branch.storage, "branch", SAMPLES, NIGHT), SAMPLE)}


def review(branch, row, by="ann", at=datetime(2026, 11, 4, 9, tzinfo=UTC), **said):
    home, of = partition_of(branch.storage, "branch"), {name: row[name] for name in ("key", "digest", "chosen")}
    return keep(home, Review(interval=NIGHT, version=row["model"], by=by, at=at, **of, **said))


def test_people_are_shown_the_worst_the_doubtful_the_unknown_and_one_by_chance(branch):
    rows = sampled(branch)
    left = {number: score for number, score in enumerate(SCORES) if number != rows["random"]["row"]}
    for stratum, rank in (
        ("lowest", lambda one: one["judge"]),
        ("uncertain", lambda one: abs(one["judge"] - 0.5)),
        ("novel", lambda one: one["retrieval_relevance"]),
    ):
        number = rows[stratum]["row"]
        assert number == min(left, key=lambda one, rank=rank: rank(left[one])), stratum
        assert rows[stratum]["messages"][-1]["content"] == rows[stratum]["prompt"] == QUESTIONS[number]
        assert rows[stratum]["scores"]["judge"] == pytest.approx(left.pop(number)["judge"])


def test_a_job_that_is_killed_before_the_manifest_of_the_sample_chooses_the_same_answers(desk, monkeypatch):
    branch = desk(review={"rows": 4})
    branch.answered(NIGHT, scores=SCORES)
    with monkeypatch.context() as killed:
        killed.setattr(partitions, "create", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            branch.said(NIGHT, [])
    branch.said(NIGHT, [])
    first = require_manifest(partition_of(branch.storage, "branch", SAMPLES, NIGHT))
    monkeypatch.setattr("nightshift.data.review_sample.chosen", lambda *_: pytest.fail("chosen again"))
    branch.said(NIGHT, [])
    assert require_manifest(partition_of(branch.storage, "branch", SAMPLES, NIGHT)) == first


def test_a_night_that_was_chosen_in_an_earlier_way_keeps_the_answers_that_people_were_shown(branch, monkeypatch):
    before = require_manifest(partition_of(branch.storage, "branch", SAMPLES, NIGHT))
    monkeypatch.setattr("nightshift.data.review_sample.VERSION", before.inputs["version"] + 1)
    branch.said(NIGHT, [])
    assert require_manifest(partition_of(branch.storage, "branch", SAMPLES, NIGHT)) == before


def test_where_nothing_is_scored_all_are_chosen_by_chance_and_a_short_night_is_shown_whole(desk):
    branch = desk(review={"rows": 20})
    branch.answered(NIGHT)
    assert branch.said(NIGHT, []).to_review == 8
    rows = branch.rows(partition_of(branch.storage, "branch", SAMPLES, NIGHT), SAMPLE)
    assert {row["chosen"] for row in rows} == {"random"}


def test_a_review_is_feedback_of_the_interval_in_which_it_was_given(branch):
    rows = sampled(branch)
    assert review(branch, rows["lowest"], good=False, correction="Call ann@example.org.", reason="It is rude.")
    assert not review(branch, rows["lowest"], good=True), "one of each person and answer"
    assert review(branch, rows["random"], good=True)
    late = datetime(2026, 11, 5, tzinfo=UTC)
    assert review(branch, rows["novel"], good=True, at=late)

    result = branch.said("2026-11-04", [])
    assert (result.verdict, result.rows_in, result.joined, result.to_review) == (Verdict.PASS, 2, 2, 0)
    said = {row["metadata"]["review:chosen"]: row for row in branch.rows(UPath(result.feedback), FEEDBACK)}
    lowest = said["lowest"]
    assert (lowest["up"], lowest["night"], lowest["row"]) == (False, NIGHT, rows["lowest"]["row"])
    assert (lowest["model"], lowest["digest"]) == ("7", rows["lowest"]["digest"])
    assert lowest["answer"] == "Call <email>."
    assert lowest["metadata"]["review:reason"] == "It is rude."
    assert lowest["subject"] == stored_id("ann", KEY.encode(), subject=True)
    facts = require_manifest(UPath(result.feedback)).facts
    assert [model["judged"] for model in facts["models"].values()] == [1], "what was chosen as bad counts in no share"
    assert facts["agreement"]["reviews"] == 2
    assert branch.said("2026-11-05", []).joined == 1


def test_a_review_of_an_answer_that_was_made_again_waits(branch):
    row = sampled(branch)["random"]
    review(branch, row, good=True)
    branch.answered(NIGHT, QUESTIONS[:5])
    branch.said(NIGHT, [])
    result = branch.said("2026-11-04", [])
    assert (result.verdict, result.waiting) == (Verdict.WARN, 1)
    (waits,) = branch.rows(UPath(result.feedback), WAITING)
    assert waits["digest"] == row["digest"], "or nobody could erase it"


def test_corrections_of_chosen_answers_are_a_suite_and_never_random_held_out_rows(desk):
    branch = desk(review={"rows": 8})
    branch.answered(NIGHT, scores=[*SCORES[4:], *SCORES[:4]])
    branch.said(NIGHT, [])
    rows = branch.rows(partition_of(branch.storage, "branch", SAMPLES, NIGHT), SAMPLE)
    for row in rows:
        review(branch, row, good=False, correction=f"Right answer {row['row']}.")
    assert branch.said("2026-11-04", []).corrections == 8
    made = branch.rows(branch.corrections("2026-11-04"), EXAMPLES)
    chosen = {row["prompt"]: row["chosen"] for row in rows}
    held_out = {row["prompt"] for row in made if row["split"] == "held_out"}
    assert {chosen[prompt] for prompt in held_out} > {"random"}, "the test has rows of both kinds"

    taken = branch.snapshot()
    at_random = {row["prompt"] for row in branch.rows(taken, "held_out.parquet")}
    assert at_random == {prompt for prompt in held_out if chosen[prompt] == "random"}
    manifest = require_manifest(taken)
    suite = corrected_examples(taken, manifest, 100, scratch(UPath(branch.storage)))
    assert {row["prompt"] for row in suite} == held_out
    counts = dict(manifest.counts)
    assert counts.pop("rows") == sum(counts.values()) == 8


def test_a_held_out_question_stays_one_when_its_answer_is_corrected(desk):
    branch = desk(review={"rows": 8})
    branch.ingested("2026-11-02", [{"text": text, "answer": "Wrong."} for text in QUESTIONS])
    before = branch.rows(branch.snapshot(), "held_out.parquet")
    branch.answered(NIGHT, scores=SCORES)
    branch.said(NIGHT, [])
    for row in branch.rows(partition_of(branch.storage, "branch", SAMPLES, NIGHT), SAMPLE):
        review(branch, row, good=False, correction="Right.")
    branch.said("2026-11-04", [])
    after = branch.rows(branch.snapshot(), "held_out.parquet")
    assert [row["prompt"] for row in after] != []
    assert {row["prompt"] for row in after} == {row["prompt"] for row in before}
    assert {row["answer"] for row in after} == {"Right."}


@pytest.mark.parametrize("whose", ["question", "review"])
def test_who_asked_and_who_judged_can_both_have_it_erased(branch, whose):
    rows = sampled(branch)
    user = "ann" if whose == "review" else f"user{rows['lowest']['row']}"
    review(branch, rows["lowest"], good=False, correction="No.")
    review(branch, rows["random"], by="ben", good=True)
    branch.said("2026-11-04", [])
    home = partition_of(branch.storage, "branch")
    plan = Finding(home, ErasureTarget(subject=stored_id(user, KEY.encode(), subject=True), typed=user)).find()
    apply(home, plan, 1, lambda *_: None)
    assert [one.by for one in reviews_of(home, [NIGHT])] == ["ben"]
    assert ("lowest" in sampled(branch)) == (whose == "review")
    assert require_manifest(home / SAMPLES / NIGHT).counts["rows"] == len(sampled(branch))
    assert len(branch.rows(home / "feedback" / "2026-11-04", FEEDBACK)) == 1


def test_it_is_erased_also_where_the_traffic_of_the_night_is_gone(branch):
    row = sampled(branch)["lowest"]
    review(branch, row, good=False, correction="No.")
    branch.said("2026-11-04", [])
    home = partition_of(branch.storage, "branch")
    (wanted,) = [
        one["id"] for one in branch.rows(home / "interactions" / NIGHT, INTERACTIONS) if one["row"] == row["row"]
    ]
    shutil.rmtree((home / "traffic" / NIGHT).path)
    apply(home, Finding(home, ErasureTarget(id=wanted, typed=wanted)).find(), 1, lambda *_: None)
    assert "lowest" not in sampled(branch)
    assert reviews_of(home, [NIGHT]) == []
    assert branch.rows(home / "feedback" / "2026-11-04", FEEDBACK) == []


def test_feedback_needs_a_source_or_a_review():
    assert Feedback(review={}).review.rows == 20
    with pytest.raises(ValidationError, match="give `sources`, or `review`"):
        Feedback()
    with pytest.raises(ValidationError, match="no source may be called `review`"):
        Feedback(review={}, sources=[{"name": "review", "uri": "a.jsonl", "columns": {"id": "n", "thumb": "v"}}])
