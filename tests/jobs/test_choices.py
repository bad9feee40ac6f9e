"""Choices between two answers of a shadow: which pairs people are shown, and what becomes of what they prefer."""

import shutil
from datetime import UTC, datetime

import pytest
from desk import KEY, QUESTIONS, desk
from upath import UPath

from nightshift.data.examples import EXAMPLES
from nightshift.data.feedback import FEEDBACK
from nightshift.data.normalise import stored_id
from nightshift.data.quarantine import Reason
from nightshift.data.review_pairs import PAIRS, shown_order
from nightshift.data.review_sample import SAMPLE
from nightshift.erasure.applying import apply
from nightshift.erasure.finding import Finding
from nightshift.erasure.target import ErasureTarget
from nightshift.jobs.contract import JobSpec
from nightshift.jobs.reviewing import publish_pairs
from nightshift.ledger.records import Review
from nightshift.ledger.reviews import keep, reviews_of
from nightshift.monitoring.due_intervals import answered_interval
from nightshift.monitoring.logged_prompts import logged_prompts
from nightshift.monitoring.shadow import compared
from nightshift.registry.versions import Registered
from nightshift.settings.shadow import Shadow
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import partition_of
from nightshift.verdict import Verdict

__all__ = ["desk"]

pytestmark = pytest.mark.usefixtures("mlflow_store")

NIGHT, SHADOW = "2026-11-03", "0123456789abcdef"
MODELS = tuple(Registered("branch", version, "m", version * 64, {}, "") for version in ("7", "8"))


def shadowed(branch, candidate):
    """Publish the pairs of a shadow in which the candidate answers each question as this function of the champion's answer."""
    home = partition_of(branch.storage, "branch")
    night = answered_interval(home / "interactions" / NIGHT, require_manifest(home / "interactions" / NIGHT))
    app = branch.application.model_copy(update={"shadow": Shadow(min_prompts=10, prompts=10)})
    logged = logged_prompts([night], app, branch.storage, salt="8" * 64)
    answers = [row | {"response": candidate(row["response"]), "judge": 0.9} for row in logged.rows]
    found = compared(logged.rows, answers, None, "exact_match")
    spec = JobSpec(application=branch.application, storage=branch.storage)
    publish_pairs(spec, SHADOW, {"candidate": "8"}, logged=logged, found=found, models=MODELS)
    name = f"{NIGHT}-{SHADOW}"
    return branch.rows(home / PAIRS / name, SAMPLE) if (home / PAIRS / name).exists() else []


@pytest.fixture
def branch(desk):
    """An application whose eight questions were answered by version 7, and seven of them in other words by version 8."""
    office = desk(review={"rows": 8}, recipe="kto")
    said = [{"response": f"Answer {n}.", "judge": 0.2} for n in range(8)]
    office.ingested(
        "2026-11-02", [{"text": "What is the weather like?", "answer": "Unknown."}]
    )  # what is trained on is known
    office.answered(NIGHT, scores=said)
    office.pairs = shadowed(office, lambda answer: answer if answer == "Answer 0." else f"Better: {answer}")
    return office


def choose(branch, pair, better="candidate", by="ann", reason="", day=4):  # noqa: PLR0917
    return keep(
        partition_of(branch.storage, "branch"),
        Review(
            interval=pair["night"], key=pair["key"], digest=pair["digest"], chosen="pair", shadow=SHADOW, version="7",
            candidate="8", better=better, first="champion", good=better != "neither", reason=reason, by=by,
            at=datetime(2026, 11, day, 9, tzinfo=UTC),
        ),
    )  # fmt: skip


def test_people_are_shown_pairs_of_a_shadow_whose_answers_differ(branch):
    assert len(branch.pairs) == 7
    for pair in branch.pairs:
        assert pair["candidate"] == f"Better: {pair['champion']}"
        assert pair["messages"][-1]["content"] == QUESTIONS[pair["row"]]
        assert (pair["night"], pair["champion_model"], pair["candidate_model"]) == (NIGHT, "7", "8")
        assert pair["candidate_scores"]["judge"] == pytest.approx(0.9)
    assert shadowed(branch, lambda _: "Other.") == branch.pairs, "what is there stays"


def test_a_shadow_shows_nobody_pairs_where_nobody_reviews(desk):
    office = desk()
    office.ingested("2026-11-02", [{"text": "What is the weather like?", "answer": "Unknown."}])
    office.answered(NIGHT, scores=[{"response": "Yes."}] * 8)
    assert shadowed(office, lambda _: "No.") == []


def test_the_order_is_by_chance_over_pairs_and_people_and_the_same_at_each_look():
    orders = [shown_order(f"key {pair}", f"person {person}") for pair in range(40) for person in range(5)]
    assert orders == [shown_order(f"key {pair}", f"person {person}") for pair in range(40) for person in range(5)]
    assert 60 < sum(order[0] == "champion" for order in orders) < 140


def test_a_choice_becomes_a_pair_to_learn_from_on_the_side_of_its_question(branch):
    for pair in branch.pairs:
        assert choose(branch, pair, "candidate", reason="Clearer.")
        assert not choose(branch, pair, "champion"), "one of each person and pair"
    result = branch.said("2026-11-04", [])
    assert (result.verdict, result.rows_in, result.joined, result.corrections) == (Verdict.PASS, 7, 7, 7)
    made = branch.rows(branch.corrections("2026-11-04"), EXAMPLES)
    asked = {QUESTIONS[pair["row"]]: pair for pair in branch.pairs}
    assert {row["split"] for row in made} == {"train", "held_out"}
    for row in made:
        pair = asked[row["prompt"]]
        assert (row["answer"], row["rejected"]["content"]) == (pair["candidate"], pair["champion"])
        assert row["metadata"] == {
            "feedback:kind": "pair", "feedback:interaction": f"{NIGHT}/{pair['row']}", "feedback:model": "7",
            "feedback:subject": stored_id("ann", KEY.encode(), subject=True), "review:chosen": "pair",
            "review:digest": pair["digest"], "review:preferred": "8", "review:rejected": "7", "review:reason": "Clearer.",
        }  # fmt: skip
    taken = branch.snapshot()
    for side in ("train", "held_out"):
        learned = [row for row in branch.rows(taken, f"{side}.parquet") if row["rejected"]]
        assert {row["prompt"] for row in learned} == {row["prompt"] for row in made if row["split"] == side}


def test_neither_is_a_bad_answer_and_no_difference_is_no_feedback(branch):
    neither, same, *_ = branch.pairs
    choose(branch, neither, "neither", reason="Both are wrong.")
    choose(branch, same, "same")
    result = branch.said("2026-11-04", [])
    assert (result.rows_in, result.joined, result.corrections) == (1, 1, 1)
    (row,) = branch.rows(UPath(result.feedback), FEEDBACK)
    assert (row["up"], row["answer"], row["model"], row["row"]) == (False, None, "7", neither["row"])
    (bad,) = branch.rows(branch.corrections("2026-11-04"), EXAMPLES)
    assert (bad["response"], bad["metadata"]["feedback:kind"]) == (neither["champion"], "undesirable")
    facts = require_manifest(UPath(result.feedback)).facts
    assert facts["models"] == {}, "answers that differ between versions are no sample of the night"
    assert (facts["agreement"]["reviews"], facts["agreement"]["choices"]["choices"]) == (0, 2)


def test_a_pair_is_learned_from_once_as_most_people_found(branch):
    first, tied, alike, *_ = branch.pairs
    for person, better in (("ann", "champion"), ("ben", "candidate"), ("eve", "candidate"), ("kim", "neither")):
        choose(branch, first, better, by=person, reason="So.")
    choose(branch, tied, "candidate")
    choose(branch, tied, "champion", by="ben")
    choose(branch, alike, "same")
    assert branch.said("2026-11-04", []).rows_in == 1
    (made,) = branch.rows(branch.corrections("2026-11-04"), EXAMPLES)
    assert (made["answer"], made["rejected"]["content"]) == (first["candidate"], first["champion"])
    for person in ("joe", "liz", "sam"):
        choose(branch, first, "champion", by=person, day=5)
        choose(branch, tied, "champion", by=person, day=5)
    choose(branch, alike, "champion", by="joe", day=5)
    assert branch.said("2026-11-05", []).rows_in == 1, "what was learned stays, and so does what people are divided on"
    (made,) = branch.rows(branch.corrections("2026-11-05"), EXAMPLES)
    assert (made["answer"], made["rejected"]["content"]) == (alike["champion"], alike["candidate"])


@pytest.mark.parametrize(
    "answer",
    [
        '{"from": "gpt"}',
        "Human: hi\n\nAssistant: yo",
        '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]',
    ],
)
def test_an_answer_that_looks_like_a_conversation_is_learned_as_it_is(branch, answer):
    shutil.rmtree(partition_of(branch.storage, "branch", PAIRS).path)
    pair, *_ = shadowed(branch, lambda _: answer)
    choose(branch, pair)
    assert branch.said("2026-11-04", []).corrections == 1
    (made,) = branch.rows(branch.corrections("2026-11-04"), EXAMPLES)
    assert (made["answer"], made["rejected"]["content"]) == (answer, pair["champion"])


def test_the_answer_that_was_judged_is_found_after_days_and_after_rows_before_it_were_erased(branch):
    pair = branch.pairs[0]
    choose(branch, pair, "neither", reason="Both are wrong.", day=13)
    home = partition_of(branch.storage, "branch")
    apply(
        home,
        Finding(home, ErasureTarget(subject=stored_id("user0", KEY.encode(), subject=True))).find(),
        1,
        lambda *_: None,
    )
    assert branch.rows(home / "interactions" / NIGHT, "interactions.parquet")[0]["row"] == 0
    branch.said("2026-11-13", [])
    (made,) = branch.rows(branch.corrections("2026-11-13"), EXAMPLES)
    assert made["response"] == pair["champion"]


def test_a_choice_whose_answers_are_gone_is_set_aside_and_not_lost_in_silence(branch):
    choose(branch, branch.pairs[0])
    choose(branch, branch.pairs[1])
    assert shadowed(branch, lambda answer: f"Again: {answer}") == branch.pairs
    partition = partition_of(branch.storage, "branch", PAIRS, f"{NIGHT}-{SHADOW}")
    shutil.rmtree(partition.path)
    shadowed(branch, lambda answer: f"{'Better' if answer == branch.pairs[0]['champion'] else 'Again'}: {answer}")
    result = branch.said("2026-11-04", [])
    assert (result.joined, result.quarantined) == (1, 1)
    reasons = require_manifest(UPath(result.feedback)).facts["quarantine"]
    assert set(reasons) < {reason.value for reason in Reason}


@pytest.mark.parametrize("whose", ["question", "choice", "question whose traffic is gone"])
def test_who_asked_and_who_chose_can_both_have_a_choice_erased(branch, whose):
    first, second, *_ = branch.pairs
    choose(branch, first)
    choose(branch, second, by="ben")
    branch.said("2026-11-04", [])
    home = partition_of(branch.storage, "branch")
    if whose == "question whose traffic is gone":
        shutil.rmtree((home / "traffic" / NIGHT).path)
        shutil.rmtree((home / "interactions" / NIGHT).path)
    user = "ann" if whose == "choice" else f"user{first['row']}"
    plan = Finding(home, ErasureTarget(subject=stored_id(user, KEY.encode(), subject=True), typed=user)).find()
    apply(home, plan, 1, lambda *_: None)
    assert [one.by for one in reviews_of(home, [SHADOW])] == ["ben"]
    name = f"{NIGHT}-{SHADOW}"
    left = [pair["key"] for pair in branch.rows(home / PAIRS / name, SAMPLE)]
    assert (first["key"] in left) == (whose == "choice")
    assert require_manifest(home / PAIRS / name).counts["rows"] == len(left)
    learned = branch.rows(branch.corrections("2026-11-04"), EXAMPLES)
    assert [row["answer"] for row in learned] == [second["candidate"]]
