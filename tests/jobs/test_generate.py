"""The jobs `generate` and `score`: each prompt is answered once, whoever is killed, and the night is whole."""

import signal
from pathlib import Path

import pytest
from answered_intervals import HOSTILE, interactions_of, parts_of, score_spec, start
from upath import UPath

from nightshift.data.interactions import INTERACTION_SCHEMA
from nightshift.errors import BadEnvironment, BadInput
from nightshift.inference.engines import open_engine
from nightshift.jobs import generate, score
from nightshift.jobs.contract import read_result
from nightshift.settings.feedback import Feedback
from nightshift.storage.manifest import require_manifest
from nightshift.verdict import Verdict

pytestmark = pytest.mark.slow


def said_alone(folder, prompts, most):
    """What greedy `generate` of Transformers says to each prompt."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answers = []
    for prompt in prompts:
        given = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        said = model.generate(**given, do_sample=False, max_new_tokens=most)[0, given["input_ids"].shape[1] :]
        answers.append(tokenizer.decode(said, skip_special_tokens=True).strip())
    return answers


def test_a_night_is_answered_in_parts_and_scored(night, champion, progress, tmp_path, tiny_models):
    version = champion()
    generated = generate.run(generate.Spec(**night), progress)
    assert generated.verdict is Verdict.PASS
    assert (generated.model, generated.model_digest, generated.rows) == (version.version, version.digest, 25)
    parts = parts_of(generated)
    assert list(parts) == ["000000000-000000006", "000000007-000000013", "000000014-000000020", "000000021-000000024"]
    rows = [row for _, rows in parts.values() for row in rows]
    assert [row["row"] for row in rows] == list(range(25))
    assert sum(row["tokens"] for row in rows) == generated.tokens

    scored = score.run(score_spec(night, generated), progress)
    assert scored.verdict is Verdict.PASS
    assert scored.interactions.endswith("/interactions/2026-11-02")
    table = interactions_of(scored, tmp_path)
    assert table.schema.equals(INTERACTION_SCHEMA)
    assert table["row"].to_pylist() == list(range(25))
    assert table["prompt"].to_pylist()[17:23] == HOSTILE
    assert set(table["model"].to_pylist()) == {version.version}
    assert table["response"].to_pylist() == said_alone(tiny_models.trained, table["prompt"].to_pylist(), 8)
    assert scored.means["exact_match"] > 0.9
    assert table["exact_match"].null_count == len(HOSTILE) + 2
    assert table["latency_ms"].null_count == 0

    manifest = require_manifest(UPath(scored.interactions), scored.digest)
    assert manifest.counts["rows"] == 25
    assert manifest.counts["stop"] + manifest.counts.get("length", 0) == 25
    assert manifest.facts["seconds"]["tokens"] >= 0
    assert manifest.facts["model"] == version.version
    assert score.run(score_spec(night, generated), progress) == scored
    replayed = score.run(score_spec(night, generated, replay=True), progress)
    assert replayed.interactions.endswith(f"/replays/{version.digest[:16]}/2026-11-02")


def test_what_it_cost_and_scored_is_in_mlflow(night, champion, progress):
    from mlflow import MlflowClient

    champion()
    scored = score.run(score_spec(night, generate.run(generate.Spec(**night), progress)), progress)
    run = MlflowClient().get_run(scored.run_url.rpartition("/")[2])
    assert run.info.run_name == "interactions 2026-11-02"
    assert run.data.metrics["count/rows"] == 25
    assert run.data.metrics["mean/exact_match"] == pytest.approx(scored.means["exact_match"])
    assert run.data.metrics["cpu_seconds/sentiment"] >= 0
    assert run.data.metrics["tokens_per_second"] > 0


def test_where_answers_are_reviewed_each_tells_how_likely_the_model_found_it(night, champion, progress):
    champion()
    asked = night | {"application": night["application"].model_copy(update={"feedback": Feedback(review={})})}
    scored = score.run(score_spec(asked, generate.run(generate.Spec(**asked), progress)), progress)
    assert -5 < scored.means["logprob"] < 0


def test_answers_that_nobody_reviews_are_not_measured(tiny_models, night):
    reviewed = night["application"].model_copy(update={"feedback": Feedback(review={})})
    row = {"digest": "d" * 64, "messages": [{"role": "user", "content": "where is my card"}]}
    (answer,) = open_engine(Path(tiny_models.random), reviewed).answer([row], lambda _done, _of: None)
    assert answer.logprob is None


def test_without_a_champion_nobody_answers(night, progress, mlflow_server):
    result = generate.run(generate.Spec(**night), progress)
    assert result.verdict is Verdict.INSUFFICIENT_DATA
    assert "no champion yet" in result.reason
    assert result.responses is None


def test_a_night_without_prompts_is_no_night(night, progress, publish_day, champion):
    champion()
    partition, manifest = publish_day("2026-11-03", [("x", "y", "train")], application=night["application"].name)
    empty = night | {"prompts": str(partition), "digest": manifest.digest}
    assert generate.run(generate.Spec(**empty), progress).verdict is Verdict.INSUFFICIENT_DATA
    assert score.run(score.Spec(**empty), progress).verdict is Verdict.INSUFFICIENT_DATA


def test_three_shards_leave_the_parts_of_one(night, champion, progress, tmp_path):
    champion()
    whole = generate.run(generate.Spec(**night), progress)
    apart = night | {"storage": (tmp_path / "apart").as_uri()}
    shards = [generate.run(generate.Spec(**apart, shard=n, shards=3, run="night 1"), progress) for n in (2, 0)]
    with pytest.raises(BadEnvironment, match="not all parts are there yet: 1 of 4 are missing"):
        score.run(score_spec(apart, shards[0]), progress)
    shards.append(generate.run(generate.Spec(**apart, shard=1, shards=3, run="night 1"), progress))
    assert {shard.responses for shard in shards} == {shards[0].responses}
    assert parts_of(shards[0]) == parts_of(whole)
    assert sum(shard.rows for shard in shards) == whole.rows
    scored = [score.run(score_spec(*pair), progress) for pair in ((night, whole), (apart, shards[0]))]
    one, three = (interactions_of(result, tmp_path).drop_columns("latency_ms") for result in scored)
    assert one.equals(three)


def test_shards_of_one_run_answer_with_one_champion_though_it_changes(night, champion, progress):
    first = champion()
    before = generate.run(generate.Spec(**night, shard=0, shards=2, run="night 1"), progress)
    second = champion(seed=2)
    after = generate.run(generate.Spec(**night, shard=1, shards=2, run="night 1"), progress)
    assert (before.model, after.model) == (first.version, first.version)
    assert generate.run(generate.Spec(**night), progress).model == second.version
    assert generate.run(generate.Spec(**night, model=first.version), progress).responses == before.responses
    with pytest.raises(BadInput, match="there is no version 99"):
        generate.run(generate.Spec(**night, model="99"), progress)


@pytest.mark.usefixtures("forked_jobs")
def test_killed_while_it_answers_it_goes_on_and_answers_nobody_twice(night, champion, progress, tmp_path):
    champion()
    undisturbed = generate.run(generate.Spec(**night | {"storage": (tmp_path / "other").as_uri()}), progress)
    spec, folder = generate.Spec(**night), tmp_path / "killed"
    # While it answers the third part, and with the files of that part there but not its manifest.
    for dies_at in [
        ("nightshift.inference.chat_engine", "prompt_ids", 3),
        ("nightshift.storage.partition", "create", 1),
    ]:
        assert start("generate", spec, folder, dies_at) == -signal.SIGKILL
        parts = list((UPath(night["storage"]) / spec.application.name / "responses").glob("*/*/manifest.json"))
        assert len(parts) == 2
    made = {path: path.stat().st_mtime_ns for path in parts}
    assert start("generate", spec, folder) == 0, (folder / "log").read_text()[-3000:]
    assert {path: path.stat().st_mtime_ns for path in parts} == made
    result = generate.Result.model_validate(read_result("generate", spec, str(folder / "result.json")).result)
    assert parts_of(result) == parts_of(undisturbed)
    assert "14 of 25 prompts were answered by an earlier attempt" in (folder / "log").read_text()

    spec, folder = score_spec(night, result), tmp_path / "killed-score"
    assert start("score", spec, folder, ("nightshift.storage.partition", "create", 1)) == -signal.SIGKILL
    assert start("score", spec, folder) == 0, (folder / "log").read_text()[-3000:]
    scored = score.Result.model_validate(read_result("score", spec, str(folder / "result.json")).result)
    assert interactions_of(scored, tmp_path)["row"].to_pylist() == list(range(25))


def test_a_prompt_that_the_model_cannot_read_costs_only_itself(night, champion, progress, publish_day):
    champion()
    name = night["application"].name
    rows = [("short", None, "traffic"), ("b" * 20_000, None, "traffic"), ("short too", None, "traffic")]
    partition, manifest = publish_day("2026-11-04", rows, application=name)
    long = night | {"prompts": str(partition), "digest": manifest.digest}
    ((_, answers),) = parts_of(generate.run(generate.Spec(**long), progress)).values()
    assert [bool(row["tokens"]) for row in answers] == [True, False, True]
    assert (answers[1]["response"], answers[1]["finish_reason"]) == ("", "length")
