"""The job `feedback`: each row of what people said is accounted for, found late, and the same however often it is read."""

import pytest
import said_feedback
from pydantic import ValidationError
from said_feedback import ASKED, rows_of
from upath import UPath

from nightshift.data.feedback import FEEDBACK, WAITING
from nightshift.erasure.finding import Finding
from nightshift.erasure.target import ErasureTarget
from nightshift.jobs.feedback import run
from nightshift.settings.application import Application
from nightshift.settings.feedback import FeedbackSource
from nightshift.storage import partition as partitions
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import partition_of
from nightshift.verdict import Verdict

answered, said = said_feedback.answered, said_feedback.said


ROWS = [
    {"message": "a", "vote": True, "user": "jo@example.org", "at": "2026-11-03T10:00:00Z"},
    {"message": "a", "vote": True, "user": "jo@example.org", "at": "2026-11-03T10:00:00Z"},
    {"message": "old", "stars": 2, "better": "Call jo@example.org", "user": "kim"},
    {"asked": ASKED, "better": "It is on its way."},
    {"message": "nobody", "vote": "down", "user": "kim"},
    {"message": "a", "vote": "sideways"},
    {"message": "a", "stars": 6},
    {"message": "a"},
    {"vote": "up"},
]


def test_each_row_is_joined_or_accounted_for_and_nobody_can_be_recognised(
    said, answered, progress, mlflow_store, tmp_path
):
    answered(1, ["old", "x"], "older")
    answered(3, ["a", "b"])
    for row in ROWS:
        row.setdefault("asked", ASKED if "message" in row else None)
    result = run(said(ROWS), progress)
    assert result.verdict is Verdict.PASS
    assert (result.rows_in, result.joined, result.waiting, result.duplicates, result.quarantined) == (9, 3, 1, 1, 4)

    thumb, late, correction = rows_of(result, tmp_path)
    assert (thumb["up"], thumb["rating"], thumb["night"], thumb["row"]) == (True, None, "2026-11-03", 0)
    assert (late["rating"], late["night"], late["model_digest"]) == (0.25, "2026-11-01", "older")
    assert late["answer"] == "Call <email>"
    assert late["messages"][0]["content"] == ASKED
    assert (correction["answer"], correction["row"]) == ("It is on its way.", 1)
    assert len({row["subject"] for row in (thumb, late)}) == 2
    assert all(row["subject"].startswith("hmac-sha256:") for row in (thumb, late))
    (waiting,) = rows_of(result, tmp_path, WAITING)
    assert (waiting["id"], waiting["up"], waiting["night"]) == ("nobody", False, None)
    facts = require_manifest(UPath(result.feedback)).facts
    assert facts["nights"] == {"2026-11-01": 1, "2026-11-03": 2}
    assert facts["models"] == {
        "m": {"judged": 2, "bad": 1, "rated": 0, "rating_sum": 0, "rating_squares": 0},
        "older": {"judged": 1, "bad": 1, "rated": 1, "rating_sum": 0.25, "rating_squares": 0.0625},
    }


def test_rows_that_name_their_interaction_need_no_prompt(said, answered, progress, mlflow_store, tmp_path):
    answered(3, ["7"])
    columns = {"id": "message", "thumb": "vote", "answer": "better"}
    result = run(said([{"message": 7, "vote": -1, "better": "Soon."}, {"message": 7, "vote": "👍"}], columns), progress)
    assert [(row["up"], row["answer"], row["messages"]) for row in rows_of(result, tmp_path)] == [
        (False, "Soon.", None), (True, None, None),
    ]  # fmt: skip


def test_of_two_answers_the_one_that_people_preferred_is_kept_beside_the_other(
    said, answered, progress, mlflow_store, tmp_path
):
    answered(3, ["a", "b"])
    columns = {"prompt": "asked", "answer": "chosen", "rejected": "rejected"}
    rows = [{"asked": ASKED, "chosen": "It is on its way.", "rejected": "No idea."}, {"asked": ASKED, "chosen": "One."}]
    result = run(said(rows, columns), progress)
    assert (result.joined, result.quarantined) == (1, 1)
    (pair,) = rows_of(result, tmp_path)
    assert (pair["answer"], pair["rejected"]["content"], pair["row"]) == ("It is on its way.", "No idea.", 1)
    assert [message["content"] for message in pair["messages"]] == [ASKED]


def test_a_job_that_was_killed_before_the_manifest_gives_the_same_and_the_third_does_nothing(
    said, answered, progress, mlflow_store, monkeypatch
):
    answered(3, ["a"])
    spec = said([{"message": "a", "asked": ASKED, "vote": "up"}])
    with monkeypatch.context() as killed:
        killed.setattr(partitions, "create", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(spec, progress)
    first = run(spec, progress)
    assert first.joined == 1
    monkeypatch.setattr("nightshift.data.feedback.gather", lambda *_: pytest.fail("the work was done again"))
    assert run(spec, progress) == first


def test_what_waited_is_joined_once_its_night_is_there(said, answered, progress, mlflow_store):
    spec = said([{"message": "a", "asked": ASKED, "vote": "up"}])
    first = run(spec, progress)
    assert (first.verdict, first.waiting) == (Verdict.WARN, 1)
    answered(2, ["a"])
    assert run(spec, progress).joined == 1


def test_an_interval_without_feedback_is_no_pass(said, answered, progress, mlflow_store, tmp_path):
    answered(3, ["a"])
    spec = said([])
    assert run(spec, progress).verdict is Verdict.INSUFFICIENT_DATA
    (tmp_path / "said.jsonl").unlink()
    assert run(spec, progress).verdict is Verdict.INSUFFICIENT_DATA


@pytest.mark.usefixtures("mlflow_store")
def test_who_has_their_rows_erased_leaves_no_feedback(said, answered, progress, tmp_path, storage):
    answered(3, ["a"])
    result = run(said([{"message": "a", "asked": ASKED, "vote": "up", "user": "jo"}]), progress)
    (row,) = rows_of(result, tmp_path)
    plan = Finding(partition_of(storage, "bank"), ErasureTarget(subject=row["subject"])).find()
    (change,) = [change for change in plan.changes if change.path.startswith("feedback/")]
    assert change.rows == {FEEDBACK: [0]}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"thumb": "vote"}, "give `id`"),
        ({"id": "message"}, "give `thumb`, `rating` or `answer`"),
        ({"messages": "chat", "thumb": "vote"}, "feedback has no `messages`"),
        ({"id": "user", "subject": "user", "thumb": "vote"}, "keyed hash only"),
    ],
)
def test_columns_that_cannot_be_used_are_refused_with_what_to_write(said, columns, says):
    with pytest.raises(ValidationError, match=says):
        said([], columns)


@pytest.mark.parametrize("scale", [(3, 3), (float("nan"), 5), (1, float("inf")), (-1e308, 1e308)])
def test_a_scale_on_which_every_rating_would_be_the_same_is_refused(scale):
    with pytest.raises(ValidationError, match="scale: the worst and the best rating must differ and be finite"):
        FeedbackSource(uri="said.jsonl", columns={"id": "message", "rating": "stars"}, scale=scale)


@pytest.mark.parametrize(
    ("columns", "asked", "says"),
    [
        ({"prompt": "asked", "thumb": "vote"}, {"prompt": "text", "id": "message"}, "known by their ids alone"),
        ({"id": "message", "thumb": "vote"}, {"prompt": "text"}, "no source of prompts has `columns.id`"),
    ],
)
def test_feedback_that_could_never_be_joined_is_refused(columns, asked, says):
    feedback = {"sources": [{"uri": "said.jsonl", "columns": columns}]}
    with pytest.raises(ValidationError, match=says):
        Application(name="bank", sources=[{"uri": "rows.jsonl", "columns": asked}], feedback=feedback)
