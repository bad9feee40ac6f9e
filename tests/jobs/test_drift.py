"""From nights of interactions to verdicts and reports."""

import json
import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from safetensors.numpy import load_file, save_file
from sample_intervals import answered, application, crown, publish_interval, publish_reference
from upath import UPath

from nightshift.errors import BadEnvironment
from nightshift.evaluation import heads
from nightshift.evaluation.watch_file import newest_look, watch_partition
from nightshift.jobs import drift, reference
from nightshift.ledger.records import Release
from nightshift.ledger.store import Ledger
from nightshift.monitoring.references import reference_partition
from nightshift.registry.models import with_alias
from nightshift.registry.versions import CHAMPION, DIGEST_TAG
from nightshift.settings.split import Arm
from nightshift.storage.manifest import read_manifest
from nightshift.storage.partition import fetch, partition_of
from nightshift.verdict import Verdict

pytestmark = pytest.mark.slow


class Place:
    """One application with a champion and its reference, and the nights that a test gives it."""

    def __init__(self, app, storage, champion, progress):
        self.app, self.storage, self.champion, self._progress = app, storage, champion, progress

    def night(self, day, rows, model=None):
        return publish_interval(self.app, self.storage, day, rows, self.champion if model is None else model)

    def judge(self, **asked):
        return drift.run(drift.Spec(application=self.app, storage=self.storage, **asked), self._progress)


@pytest.fixture(scope="module")
def built():
    """Storage with a model and its reference, once the first test has made it: (folder, digest of the model)."""
    return []


@pytest.fixture
def place(storage, publish_day, wordless_model, progress, mlflow_store, built, tmp_path_factory):  # noqa: PLR0917
    app = application("drifting", wordless_model)
    if not built:
        spec = publish_reference(app, storage, publish_day, progress)
        crown(app.name, spec.model_digest)
        reference.run(spec, progress)
        built += [tmp_path_factory.mktemp("built") / "storage", spec.model_digest]
        shutil.copytree(UPath(storage).path, built[0])
    else:
        shutil.copytree(built[0], UPath(storage).path)
    return Place(app, storage, built[1], progress)


def test_quiet_nights_pass_and_nights_with_new_intents_fail(place):
    for day in ("2026-11-03", "2026-11-04"):
        place.night(day, answered(day))
    first = place.judge()
    assert [(night.night, night.verdict) for night in first.nights] == [
        ("2026-11-03", Verdict.PASS),
        ("2026-11-04", Verdict.PASS),
    ]
    assert first.verdict is Verdict.PASS

    for day in ("2026-11-08", "2026-11-09"):
        place.night(day, answered(day, right=0.5))
    second = place.judge()
    assert [(night.night, night.verdict) for night in second.nights] == [
        ("2026-11-08", Verdict.FAIL),
        ("2026-11-09", Verdict.FAIL),
    ]
    assert {"prompt_novelty", "exact_match"} <= set(second.nights[1].failing)

    again = place.judge()
    assert again.nights == []
    assert (again.verdict, again.reasons) == (Verdict.INSUFFICIENT_DATA, ["no interval is due"])


def test_the_report_of_a_challengers_share_has_evidentlys_page_of_both_arms_of_the_interval(place, tmp_path):
    rows, arm = answered("2026-11-03"), {"split": 1, "key": "k", "unit": "row", "share": 0.5}
    for challenger in (False, True):
        mine = Arm(**arm, challenger=challenger)
        publish_interval(place.app, place.storage, "2026-11-03", rows[challenger::2], place.champion, mine)
    found = {night.challenger: UPath(night.report) for night in place.judge().nights}
    said = f"{len(rows[1::2])} interactions of the interval and {len(rows[::2])} of the champion in the same interval"
    pages = {side: fetch(at, read_manifest(at), "report.html", tmp_path / str(side)) for side, at in found.items()}
    assert {side: said in page.read_text(encoding="utf-8") for side, page in pages.items()} == {
        False: False,
        True: True,
    }
    assert place.judge().nights == []


def test_a_report_with_its_numbers_is_in_mlflow(place, mlflow_store):
    place.night("2026-11-09", answered("2026-11-09"))
    (night,) = place.judge().nights
    run = mlflow_store.get_run(night.run_url.rpartition("/")[2])
    assert run.data.metrics["effect/prompt_novelty"] > 0.5
    assert run.data.metrics["rows"] == night.rows
    assert run.data.tags["nightshift.verdict"] == "FAIL"
    assert "novelty" in run.data.tags["mlflow.note.content"]
    names = {file.path for file in mlflow_store.list_artifacts(run.info.run_id)}
    assert names == {"report.html", "report.json", "verdict.json"}
    manifest = read_manifest(UPath(night.report))
    assert manifest.facts["model_digest"] == place.champion
    assert manifest.facts["worst_segment"] is None or "=" in manifest.facts["worst_segment"]


def test_a_night_that_did_not_arrive_is_no_pass_until_it_arrives(place):
    missing = place.judge(expected_by=datetime(2026, 11, 5, 5, tzinfo=UTC))
    assert (missing.verdict, missing.missing) == (Verdict.INSUFFICIENT_DATA, "2026-11-04")
    assert missing.nights[0].reasons[0] == "no interactions of 2026-11-04 arrived"
    place.night("2026-11-04", answered("2026-11-04"))
    there = place.judge(expected_by=datetime(2026, 11, 5, 5, tzinfo=UTC))
    assert (there.verdict, there.missing) == (Verdict.PASS, None)
    assert (
        place.judge(expected_by=datetime(2025, 1, 1, 5, tzinfo=UTC)).missing is None
    )  # before the application had traffic


def test_a_damaged_night_hides_no_other_and_is_judged_when_it_is_whole_again(place):
    damaged, manifest = place.night("2026-11-03", answered("2026-11-03"))
    place.night("2026-11-04", answered("2026-11-04"))
    file = damaged / manifest.files[0].path
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    torn, half_written = (partition_of(place.storage, place.app.name, "interactions", f"2026-11-0{n}") for n in (5, 6))
    for partition in (torn, half_written):
        partition.mkdir(parents=True)
    (torn / "manifest.json").write_text("{}")
    result = place.judge()
    assert {night.night: night.verdict for night in result.nights} == {
        "2026-11-03": Verdict.ERROR,
        "2026-11-04": Verdict.PASS,
        "2026-11-05": Verdict.ERROR,
    }
    assert result.verdict is Verdict.ERROR
    file.write_bytes(whole)
    shutil.rmtree(torn.path)
    assert [(night.night, night.verdict) for night in place.judge().nights] == [("2026-11-03", Verdict.PASS)]


def test_while_the_alias_was_moved_by_hand_no_night_is_judged(place):
    place.night("2026-11-03", answered("2026-11-03"))
    ledger = Ledger(place.storage, place.app.name)
    ledger.create(Release(number=1, model_digest="b" * 64, version="7", released=datetime(2026, 11, 1, tzinfo=UTC)))
    result = place.judge()
    assert (result.verdict, result.nights) == (Verdict.ERROR, [])
    assert "Set the alias back to version 7" in result.reasons[0]


def test_without_a_reference_the_verdict_is_an_error_that_says_what_to_do(place):
    place.night("2026-11-03", answered("2026-11-03"))
    at = Path(reference_partition(place.storage, place.app.name, place.champion).path)
    at.rename(at.with_name("away"))
    result = place.judge()
    assert result.verdict is Verdict.ERROR
    assert "run finetune again" in result.reasons[0]
    at.with_name("away").rename(at)
    assert place.judge().verdict is Verdict.PASS


def test_without_a_champion_there_is_nothing_to_compare_with(storage, wordless_model, mlflow_store, progress):
    spec = drift.Spec(application=application("uncrowned", wordless_model), storage=storage)
    result = drift.run(spec, progress)
    assert result.verdict is Verdict.INSUFFICIENT_DATA
    assert "no champion" in result.reasons[0]


def test_while_the_champions_version_is_deleted_nothing_is_judged_and_nothing_is_lost(place):
    place.night("2026-11-03", answered("2026-11-03"))
    client = MlflowClient()
    client.delete_model_version(place.app.name, with_alias(place.app.name, CHAMPION).version)
    result = place.judge()
    assert result.verdict is Verdict.INSUFFICIENT_DATA
    assert "no champion" in result.reasons[0]
    version = client.create_model_version(place.app.name, "file:///gone", tags={DIGEST_TAG: place.champion})
    client.set_registered_model_alias(place.app.name, CHAMPION, version.version)
    assert [(night.night, night.verdict) for night in place.judge().nights] == [("2026-11-03", Verdict.PASS)]


def test_what_mlflow_did_not_take_is_judged_by_the_next_try(place, monkeypatch):
    place.night("2026-11-03", answered("2026-11-03"))
    from nightshift.monitoring import drift_judgement

    def down(*_arguments, **_more):
        raise BadEnvironment("MLflow does not answer")

    with monkeypatch.context() as broken:
        broken.setattr(drift_judgement, "TrackingRun", down)
        with pytest.raises(BadEnvironment):
            place.judge()
    assert [one.verdict for one in place.judge().nights] == [Verdict.PASS]


def test_a_missing_interval_leaves_no_scratch_folder_while_mlflow_is_down(place, monkeypatch):
    from nightshift.monitoring import drift_judgement

    def down(*_arguments, **_more):
        raise BadEnvironment("MLflow does not answer")

    place.night("2026-11-03", answered("2026-11-03"))
    place.judge()
    monkeypatch.setattr(drift_judgement, "TrackingRun", down)
    with pytest.raises(BadEnvironment):
        place.judge(expected_by=datetime(2026, 11, 5, 5, tzinfo=UTC))
    assert not list((Path(UPath(place.storage).path) / ".scratch").iterdir())


def test_a_night_whose_toxicity_scorer_is_dead_does_not_pass_and_says_so(place, monkeypatch, tmp_path):
    weights = {name: np.full_like(values, np.nan) for name, values in load_file(heads.WEIGHTS).items()}
    save_file(weights, tmp_path / "heads.safetensors")
    with monkeypatch.context() as broken:
        broken.setattr(heads, "WEIGHTS", tmp_path / "heads.safetensors")
        place.night("2026-11-03", answered("2026-11-03"))
    place.night("2026-11-04", answered("2026-11-04"))
    dead, mended = place.judge().nights
    assert (dead.verdict, mended.verdict) == (Verdict.WARN, Verdict.PASS)
    assert any(reason.startswith("Refusal and toxicity: the scorer failed on 100 % of") for reason in dead.reasons), (
        dead.reasons
    )


def test_a_reference_of_an_older_scorer_is_made_anew_and_never_compared_with(place):
    place.night("2026-11-03", answered("2026-11-03"))
    at = Path(reference_partition(place.storage, place.app.name, place.champion).path) / "manifest.json"
    now = at.read_text()
    content = json.loads(now)
    content["inputs"] |= {"scores": 1}
    at.write_text(json.dumps(content))
    old = place.judge()
    assert old.verdict is Verdict.ERROR
    assert "older version" in old.reasons[0]
    assert "run finetune again" in old.reasons[0]
    at.write_text(now)
    assert place.judge().verdict is Verdict.PASS


def test_a_night_of_an_older_scorer_is_judged_without_its_scores_until_it_is_scored_again(place):
    partition, _ = place.night("2026-11-03", answered("2026-11-03"))
    at = Path(partition.path) / "manifest.json"
    content = json.loads(at.read_text())
    older = {"inputs": content["inputs"] | {"version": 2}, "inputs_digest": "0" * 64}
    at.write_text(json.dumps(content | older))
    (night,) = place.judge().nights
    assert night.verdict is Verdict.WARN
    assert night.reasons[0].endswith(
        "version 2 of the scores, the reference 4; run batch_inference for this interval again."
    )
    place.night("2026-11-03", answered("2026-11-03"))
    assert place.judge().verdict is Verdict.PASS


def test_a_night_asked_for_by_hand_is_judged_once(place):
    place.night("2026-11-03", answered("2026-11-03"))
    place.night("2026-11-04", answered("2026-11-04"))
    (first,) = place.judge(night=date(2026, 11, 4)).nights
    created = read_manifest(UPath(first.report)).created
    (again,) = place.judge(night=date(2026, 11, 4)).nights
    assert again == first
    assert read_manifest(UPath(again.report)).created == created
    (unknown,) = place.judge(night=date(2026, 11, 7)).nights
    assert (unknown.verdict, unknown.reasons) == (
        Verdict.INSUFFICIENT_DATA,
        ["no interactions of 2026-11-07 are published"],
    )


def test_few_rows_or_none_are_no_verdict(place):
    place.night("2026-11-03", answered("2026-11-03")[:20])
    place.night("2026-11-04", [])
    result = place.judge()
    assert [night.verdict for night in result.nights] == [Verdict.INSUFFICIENT_DATA] * 2


def test_the_first_nights_of_a_release_are_looked_at_and_a_damaged_look_is_an_error(place):
    release = Release(number=1, version="1", model_digest=place.champion, released=datetime(2026, 11, 1, tzinfo=UTC))
    Ledger(place.storage, place.app.name).create(release)
    place.night("2026-11-09", answered("2026-11-09", right=0.5))
    place.judge()
    look = newest_look(place.storage, place.app.name, 1)
    assert (look.version, look.drifted, look.verdict) == ("1", ["2026-11-09"], Verdict.INSUFFICIENT_DATA)
    (watch_partition(place.storage, place.app.name, 1, 1) / "manifest.json").write_text("{")
    judged = place.judge()
    assert (judged.verdict, "cannot be watched" in judged.reasons[0]) == (Verdict.ERROR, True)
