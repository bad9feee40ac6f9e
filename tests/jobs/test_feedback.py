"""The job `feedback`: each row of what people said is accounted for, found late, and the same however often it is read."""

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from upath import UPath

from nightshift.data.examples import QUARANTINE, digest_of_messages
from nightshift.data.feedback import FEEDBACK, WAITING
from nightshift.data.interactions import INTERACTION_SCHEMA, INTERACTIONS
from nightshift.erasure.applying import apply
from nightshift.erasure.finding import Finding
from nightshift.erasure.wanted import Wanted
from nightshift.jobs.feedback import Spec, run
from nightshift.settings.application import Application
from nightshift.settings.interval import Interval
from nightshift.storage import partition as partitions
from nightshift.storage.files import scratch
from nightshift.storage.manifest import Parent, require_manifest
from nightshift.storage.partition import fetch, partition_of, publish
from nightshift.verdict import Verdict

START = datetime(2026, 11, 1, tzinfo=UTC)
COLUMNS = {
    "id": "message", "prompt": "asked", "subject": "user", "timestamp": "at", "thumb": "vote", "rating": "stars",
    "answer": "better",
}  # fmt: skip
ASKED = "Where is my card?"


def interval(day):
    return Interval(start=START + timedelta(days=day - 1), end=START + timedelta(days=day))


@pytest.fixture
def answered(storage):
    """A function that publishes a night of interactions with some ids, all of the same prompt."""

    def publish_night(day, ids, model="m"):
        empty = {
            field.name: 0 if pa.types.is_integer(field.type) else ""
            for field in INTERACTION_SCHEMA
            if not field.nullable
        }
        asked = {
            "prompt": ASKED,
            "digest": digest_of_messages([{"role": "user", "content": ASKED}]),
            "model_digest": model,
        }
        rows = [{**empty, "metadata": {}, **asked, "row": row, "id": name} for row, name in enumerate(ids)]
        folder = scratch(UPath(storage))
        pq.write_table(pa.Table.from_pylist(rows, schema=INTERACTION_SCHEMA), folder / INTERACTIONS)
        at = partition_of(storage, "bank", "interactions", interval(day).key)
        return publish(
            at, folder, kind="interactions", application="bank", interval=interval(day),
            inputs={"ids": ids, "model_digest": model}, facts={"model_digest": model},
            parents=[Parent(uri="traffic/gone", digest="d")],
        )  # fmt: skip

    return publish_night


@pytest.fixture
def said(tmp_path, storage, wordless_model, monkeypatch):
    """A function that returns the spec of day 3, in which people said some things."""
    monkeypatch.setenv("NIGHTSHIFT_ID_KEY", "k" * 32)

    def spec(rows, columns=COLUMNS):
        names = sorted({*columns.values()})
        (tmp_path / "said.jsonl").write_text("".join(json.dumps(dict.fromkeys(names) | row) + "\n" for row in rows))
        source = {"uri": str(tmp_path / "said.jsonl"), "columns": columns}
        traffic = {"sources": [{"uri": "asked.jsonl", "columns": {"prompt": "text", "id": "message"}}]}
        application = Application(
            name="bank", base_model=str(wordless_model), sources=[{"uri": "rows.jsonl", "columns": {"prompt": "text"}}],
            traffic=traffic, feedback={"sources": [source]},
        )  # fmt: skip
        return Spec(application=application, storage=storage, interval=interval(3))

    return spec


def rows_of(result, tmp_path, name=FEEDBACK):
    partition = UPath(result.feedback)
    return pq.read_table(
        fetch(partition, require_manifest(partition, result.digest), name, tmp_path / "got")
    ).to_pylist()


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


LATER = [
    {"message": "a", "vote": "down", "user": "jo", "better": "Soon."},
    {"message": "a", "vote": "down", "user": "jo", "better": "Soon."},
    {"message": "late", "vote": "up", "user": "kim"},
    {"asked": "Who?", "vote": "up"},
]


def on_day(spec, day):
    return spec.model_copy(update={"interval": interval(day)})


def of_day_3(storage, tmp_path, name=FEEDBACK):
    partition = partition_of(storage, "bank", "feedback", interval(3).key)
    manifest = require_manifest(partition)
    return manifest, pq.read_table(fetch(partition, manifest, name, tmp_path / "got")).to_pylist()


@pytest.mark.usefixtures("mlflow_store")
def test_the_run_of_a_later_interval_joins_what_waited_once_and_says_how_many_wait_and_for_how_long(
    said, answered, progress, tmp_path, storage
):
    answered(3, ["a"], "older")
    for row in LATER:
        row.setdefault("asked", ASKED)
    spec = said(LATER)
    first = run(spec, progress)
    assert (first.joined, first.waiting, first.duplicates) == (1, 2, 1)
    source = (tmp_path / "said.jsonl").rename(tmp_path / "away.jsonl")
    assert (run(on_day(spec, 4), progress).joined_late, of_day_3(storage, tmp_path)[0].digest) == (0, first.digest)

    answered(2, ["late"], "m")
    again = run(on_day(spec, 5), progress)
    assert (again.joined_late, again.waiting_before, again.given_up) == (1, 1, 0)
    assert "1 rows of earlier intervals wait, the oldest of 2026-11-03 for 2 days" in again.reason
    manifest, rows = of_day_3(storage, tmp_path)
    assert [(row["id"], row["night"], row["up"]) for row in rows] == [
        ("a", "2026-11-03", False), ("late", "2026-11-02", True),
    ]  # fmt: skip
    assert (manifest.counts["joined"], manifest.counts["waiting"], manifest.counts["rows_in"]) == (2, 1, 4)
    assert manifest.facts["nights"] == {"2026-11-02": 1, "2026-11-03": 1}
    assert {model: (said["judged"], said["bad"]) for model, said in manifest.facts["models"].items()} == {
        "m": (1, 0), "older": (1, 1),
    }  # fmt: skip
    for day in (5, 6):
        assert run(on_day(spec, day), progress).joined_late == 0
    source.rename(tmp_path / "said.jsonl")
    assert (run(spec, progress).digest, of_day_3(storage, tmp_path)[1]) == (manifest.digest, rows)


@pytest.mark.usefixtures("mlflow_store")
def test_what_still_waits_after_the_days_of_looking_back_is_quarantined_with_its_reason(
    said, answered, progress, tmp_path, storage
):
    answered(3, ["a"])
    spec = said([{"message": "a", "asked": ASKED, "vote": "up"}, {"message": "x", "asked": ASKED, "better": "Soon."}])
    run(spec, progress)
    (tmp_path / "said.jsonl").unlink()
    assert run(on_day(spec, 9), progress).waiting_before == 1
    late = run(on_day(spec, 10), progress)
    assert (late.given_up, late.waiting_before) == (1, 0)
    manifest, (row,) = of_day_3(storage, tmp_path, "quarantine.parquet")
    assert (row["reason"], json.loads(row["raw"])) == ("no_interaction", {"id": "x", "answer": "Soon."})
    assert manifest.facts["quarantine"] == {"no_interaction": 1}
    assert manifest.counts == {"rows_in": 2, "joined": 1, "waiting": 0, "duplicates": 0, "quarantined": 1}
    answered(2, ["x"])
    assert run(on_day(spec, 11), progress).joined_late == 0


@pytest.mark.usefixtures("mlflow_store")
def test_nothing_is_given_up_while_a_night_that_may_have_it_cannot_be_read(said, answered, progress, storage, tmp_path):
    spec = said([{"message": "x", "asked": ASKED, "vote": "up"}])
    run(spec, progress)
    answered(2, ["x"])
    night = partition_of(storage, "bank", "interactions", interval(2).key) / "manifest.json"
    content = night.read_text()
    night.write_text("{")
    (tmp_path / "said.jsonl").write_text("")
    result = run(on_day(spec, 10), progress)
    assert (result.joined_late, result.given_up, result.waiting_before) == (0, 0, 1)
    assert "nothing is looked for and nothing given up" in result.reason
    night.write_text(content)
    assert run(on_day(spec, 11), progress).joined_late == 1


def test_a_night_is_read_once_for_all_that_waits_and_what_was_joined_late_is_logged_once(
    said, answered, progress, mlflow_store, monkeypatch
):
    read = []

    def counted(partition, manifest, name, folder):
        read.append((partition.name, name))
        return fetch(partition, manifest, name, folder)

    monkeypatch.setattr(partitions, "fetch", counted)
    spec = said([{"message": "y", "asked": ASKED, "vote": "up"}])
    for day in (3, 4):
        run(on_day(spec, day), progress)
    UPath(spec.application.feedback.sources[0].uri).unlink()
    answered(2, ["a"])
    night = (interval(2).key, INTERACTIONS)
    assert run(on_day(spec, 5), progress).waiting_before == 2
    assert read.count(night) == 1
    run(on_day(spec, 6), progress)
    assert read.count(night) == 1
    answered(3, ["y"])
    assert run(on_day(spec, 6), progress).joined_late == 2
    assert read.count(night) == 1
    run(on_day(spec, 7), progress)
    logged = mlflow_store.search_runs(["1"], f"tags.`nightshift.feedback` LIKE '{spec.storage}/%'")
    points = [len(mlflow_store.get_metric_history(one.info.run_id, "joined")) for one in logged]
    assert sorted((one.data.tags["mlflow.runName"], one.data.metrics["joined"]) for one in logged) == [
        (f"feedback {interval(day).key}", joined) for day in (3, 4) for joined in (0, 1)
    ]  # fmt: skip
    assert points == [1] * 4


@pytest.mark.usefixtures("mlflow_store")
@pytest.mark.parametrize(
    ("wanted", "row"),
    [(Wanted(id="x", typed="y"), 0), (Wanted(digest=digest_of_messages([{"role": "user", "content": ASKED}])), 1)],
)
def test_who_erases_a_row_that_nobody_waits_for_any_longer_finds_it(said, progress, tmp_path, wanted, row):
    spec = said([{"message": "x", "asked": "Who?", "better": "Soon."}, {"asked": ASKED, "vote": "up"}])
    run(spec, progress)
    (tmp_path / "said.jsonl").unlink()
    assert run(on_day(spec, 10), progress).given_up == 2
    (change,) = Finding(partition_of(spec.storage, "bank"), wanted).find().changes
    assert change.rows == {"quarantine.parquet": [row]}


@pytest.mark.usefixtures("mlflow_store")
@pytest.mark.parametrize("given_up", [False, True])
@pytest.mark.parametrize("known_by", ["id", "digest"])
def test_who_has_what_they_asked_erased_leaves_no_feedback_that_waits_for_it_or_waited(
    said, progress, tmp_path, known_by, given_up
):
    if known_by == "id":
        spec = said(
            [{"message": "x", "vote": "up"}, {"message": "y", "vote": "up"}], {"id": "message", "thumb": "vote"}
        )
    else:
        spec = said([{"asked": ASKED, "vote": "up"}, {"asked": "Who?", "vote": "up"}])
    assert run(spec, progress).waiting == 2
    if given_up:
        (tmp_path / "said.jsonl").unlink()
        assert run(on_day(spec, 10), progress).given_up == 2
    finding = Finding(partition_of(spec.storage, "bank"), Wanted(subject="of jo"))
    finding.known.ids, finding.known.digests = {"x"}, {digest_of_messages([{"role": "user", "content": ASKED}])}
    (change,) = finding.find().changes
    assert change.rows == {QUARANTINE if given_up else WAITING: [0]}


@pytest.mark.usefixtures("mlflow_store")
def test_a_run_that_was_killed_while_it_joined_what_waited_goes_on(said, answered, progress, tmp_path, monkeypatch):
    spec = said([{"message": "a", "asked": ASKED, "vote": "up"}])
    run(spec, progress)
    (tmp_path / "said.jsonl").unlink()
    answered(3, ["a"])
    with monkeypatch.context() as killed:
        killed.setattr(partitions, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(on_day(spec, 4), progress)
    assert run(on_day(spec, 4), progress).joined_late == 1


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
    plan = Finding(partition_of(storage, "bank"), Wanted(subject=row["subject"])).find()
    (change,) = [change for change in plan.changes if change.path.startswith("feedback/")]
    assert change.rows == {FEEDBACK: [0]}


@pytest.mark.usefixtures("mlflow_store")
def test_what_waited_is_joined_after_an_erasure_too_and_who_was_erased_does_not_come_back(
    said, answered, progress, tmp_path, storage
):
    answered(3, ["a"])
    rows = [{"message": "a", "vote": "up", "user": "jo"}, {"message": "late", "vote": "up", "user": "kim"}]
    spec = said([row | {"asked": ASKED} for row in rows])
    (row,) = rows_of(run(spec, progress), tmp_path)
    home = partition_of(storage, "bank")
    apply(home, Finding(home, Wanted(subject=row["subject"])).find(), 1, lambda *_: None)
    (tmp_path / "said.jsonl").unlink()
    answered(2, ["late"])
    assert run(on_day(spec, 4), progress).joined_late == 1
    manifest, (kept,) = of_day_3(storage, tmp_path)
    assert kept["id"] == "late"
    assert manifest.counts == {"rows_in": 2, "joined": 1, "waiting": 0, "duplicates": 0, "quarantined": 0, "erased": 1}


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
