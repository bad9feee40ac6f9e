"""Feedback that waits for its interaction: joined once, given up with its reason, and erased like any other."""

import json

import pyarrow.parquet as pq
import pytest
import said_feedback
from said_feedback import ASKED, interval, rows_of
from upath import UPath

from nightshift.data.examples import QUARANTINE, digest_of_messages
from nightshift.data.feedback import FEEDBACK, WAITING
from nightshift.data.interactions import INTERACTIONS
from nightshift.erasure.applying import apply
from nightshift.erasure.finding import Finding
from nightshift.erasure.target import ErasureTarget
from nightshift.jobs import waiting_feedback
from nightshift.jobs.feedback import run
from nightshift.jobs.waiting_feedback import LOOKED
from nightshift.storage import partition as partitions
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import fetch, partition_of

answered, said = said_feedback.answered, said_feedback.said


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

    monkeypatch.setattr(waiting_feedback, "fetch", counted)
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
    experiment = mlflow_store.get_experiment_by_name(spec.application.name).experiment_id
    logged = mlflow_store.search_runs([experiment], f"tags.`nightshift.feedback` LIKE '{spec.storage}/%'")
    points = [len(mlflow_store.get_metric_history(one.info.run_id, "joined")) for one in logged]
    assert sorted((one.data.tags["mlflow.runName"], one.data.metrics["joined"]) for one in logged) == [
        (f"feedback {interval(day).key}", joined) for day in (3, 4) for joined in (0, 1)
    ]  # fmt: skip
    assert points == [1] * 4


@pytest.mark.usefixtures("mlflow_store")
@pytest.mark.parametrize("damaged", [b'["cut', b"\xff", b"{}"])
def test_a_damaged_note_of_where_was_looked_keeps_nothing_from_being_joined(said, answered, progress, damaged):
    spec = said([{"message": "a", "asked": ASKED, "vote": "up"}])
    first = run(spec, progress)
    UPath(spec.application.feedback.sources[0].uri).unlink()
    answered(2, ["other"])
    run(on_day(spec, 4), progress)
    note = UPath(first.feedback) / LOOKED
    assert note.exists()
    answered(1, ["a"])
    note.write_bytes(damaged)
    assert run(on_day(spec, 5), progress).joined_late == 1


@pytest.mark.usefixtures("mlflow_store")
@pytest.mark.parametrize(
    ("wanted", "row"),
    [
        (ErasureTarget(id="x", typed="y"), 0),
        (ErasureTarget(digest=digest_of_messages([{"role": "user", "content": ASKED}])), 1),
    ],
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
    finding = Finding(partition_of(spec.storage, "bank"), ErasureTarget(subject="of jo"))
    finding.found.ids, finding.found.digests = {"x"}, {digest_of_messages([{"role": "user", "content": ASKED}])}
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


@pytest.mark.usefixtures("mlflow_store")
def test_what_waited_is_joined_after_an_erasure_too_and_who_was_erased_does_not_come_back(
    said, answered, progress, tmp_path, storage
):
    answered(3, ["a"])
    rows = [{"message": "a", "vote": "up", "user": "jo"}, {"message": "late", "vote": "up", "user": "kim"}]
    spec = said([row | {"asked": ASKED} for row in rows])
    (row,) = rows_of(run(spec, progress), tmp_path)
    home = partition_of(storage, "bank")
    apply(home, Finding(home, ErasureTarget(subject=row["subject"])).find(), 1, lambda *_: None)
    (tmp_path / "said.jsonl").unlink()
    answered(2, ["late"])
    assert run(on_day(spec, 4), progress).joined_late == 1
    manifest, (kept,) = of_day_3(storage, tmp_path)
    assert kept["id"] == "late"
    assert manifest.counts == {"rows_in": 2, "joined": 1, "waiting": 0, "duplicates": 0, "quarantined": 0, "erased": 1}
