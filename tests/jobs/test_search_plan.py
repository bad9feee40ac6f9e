"""The plan of a search: a version for each trial around the weights in use, and rows that no gate and no training has."""

import pyarrow.parquet as pq
import pytest
from searches import plan_of, planned, publish_rows, searching
from upath import UPath

from nightshift.settings.application import Application
from nightshift.settings.decoding import Decoding
from nightshift.settings.prompt import Prompt
from nightshift.settings.prompt_file import PromptFile
from nightshift.storage.application_version import open_version
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import fetch
from nightshift.verdict import Verdict

APPLICATION = Application(
    name="app",
    sources=[{"uri": "rows.jsonl", "columns": {"prompt": "text", "answer": "answer"}}],
    prompt=Prompt(system="Be brief."),
)
KIND = PromptFile(
    template='<message role="system">Be kind.</message><message role="user">{{$prompt}}</message>',
    input_variables=[{"name": "prompt"}],
)


@pytest.fixture
def in_use(publish_model, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text("{}")
    partition, manifest = publish_model(tmp_path / "weights")
    return str(partition), manifest.digest


def test_each_trial_is_a_version_with_what_is_chosen_and_examples_come_from_the_training_side(
    publish_day, storage, progress, in_use
):
    choices = {"prompt": {"prompts/kind.yaml": KIND}, "few_shot": [0, 2], "decoding": [{}, {"temperature": 0.3}]}
    app = searching(APPLICATION, choices)
    publish_rows(publish_day, app, "an <answer> {{ }}")
    _, result = planned(app, storage, in_use, progress)
    assert (result.verdict, result.trials, result.eta) == (Verdict.PASS, 5, 2)
    first, *trials = plan_of(result).trials
    assert (first.name, first.model) == ("as today", in_use[0])
    assert [one.choices["few_shot"] for one in trials] == [0, 0, 2, 2]
    versions = [open_version(one.model, one.model_digest, app) for one in trials]
    assert {one.parts.weights.digest for one in versions} == {in_use[1]}
    assert [one.parts.decoding for one in versions] == [Decoding(), Decoding(temperature=0.3)] * 2
    messages = versions[-1].parts.prompt.asked("my card")
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2 + ["user"]
    assert all(message["content"].startswith("train with") for message in messages[:-1:2])
    assert messages[1]["content"] == "an <answer> {{ }}"
    assert versions[-1].parts.prompt.system_messages(None)[0]["content"] == "Be kind."
    assert planned(app, storage, in_use, progress)[1] == result


def test_rungs_and_the_last_comparison_have_development_rows_alone(publish_day, storage, progress, in_use, tmp_path):
    app = searching(APPLICATION, {"few_shot": [1]})
    publish_rows(publish_day, app, "a")
    leak = [("train with number 0", "a", "development"), ("and this one has no answer", None, "development")]
    publish_day("2026-11-03", leak, application="app")
    spec, result = planned(app, storage, in_use, progress)
    plan, snapshot = plan_of(result), UPath(spec.snapshot)
    manifest = require_manifest(snapshot)
    file = fetch(snapshot, manifest, "development.parquet", tmp_path)
    prompts = {row["digest"]: row["prompt"] for row in pq.read_table(file).to_pylist()}
    used = [digest for part in (*plan.rungs, plan.final) for digest in part]
    assert len(set(used)) == len(used) == 5 + 5 + 10 + 30
    assert all(prompts[digest].startswith("where is card") for digest in used)
    assert "train with number 0" not in prompts.values()
    counts = manifest.counts
    assert (counts["development"], counts["seen_in_training"], counts["unanswered"]) == (90, 1, 1)
    assert counts["rows"] == sum(value for name, value in counts.items() if name != "rows")


def test_a_trial_that_is_as_today_is_left_out_and_without_another_there_is_nothing_to_search(
    publish_day, storage, progress, in_use
):
    app = searching(APPLICATION, {"few_shot": [0], "decoding": [{}]})
    publish_rows(publish_day, app, "a")
    _, result = planned(app, storage, in_use, progress)
    assert result.verdict is Verdict.INSUFFICIENT_DATA
    assert "every trial is as the version in use" in result.reason


def test_too_few_development_rows_are_no_search(publish_day, storage, progress, in_use):
    app = searching(APPLICATION, {"few_shot": [1]})
    publish_rows(publish_day, app, "a", development=12)
    _, result = planned(app, storage, in_use, progress)
    assert result.verdict is Verdict.INSUFFICIENT_DATA
    assert "a larger share of ingest.splits.development" in result.reason
    assert result.plan is None


def test_a_snapshot_without_a_development_side_is_the_same_as_before_there_was_one(publish_day, storage, progress):
    from nightshift.jobs import snapshot

    publish_rows(publish_day, APPLICATION, "a")
    made = snapshot.run(snapshot.Spec(application=APPLICATION, storage=storage, min_examples=1), progress)
    manifest = require_manifest(UPath(made.snapshot))
    assert [file.name for file in manifest.files] == ["held_out.parquet", "train.parquet"]
    assert "development" not in manifest.inputs
    assert manifest.counts["development"] == 90
