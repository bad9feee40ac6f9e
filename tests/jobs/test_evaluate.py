"""The evaluate job on language models small enough for a test, and a real MLflow server."""

import json
import shutil
from hashlib import sha256

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from candidates import example
from mlflow import MlflowClient
from upath import UPath

from nightshift.data.corrections import CORRECTION, KIND
from nightshift.data.examples import CORRECTIONS, EXAMPLE_SCHEMA, EXAMPLES
from nightshift.errors import BadEnvironment, BadInput
from nightshift.jobs import evaluate, snapshot
from nightshift.settings.application import Application, Evaluation
from nightshift.settings.decoding import Decoding
from nightshift.settings.gate import Gate
from nightshift.settings.intake import Source
from nightshift.settings.judging import Judge
from nightshift.settings.scorers import Scorer
from nightshift.settings.training import Training
from nightshift.storage.files import scratch
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import fetch, partition_of, publish

pytestmark = pytest.mark.slow
EVIL = "<script>alert('x')</script> is this {{ 7 * 7 }} my card?"


@pytest.fixture
def prepared(request, storage, progress, publish_day, publish_model, tiny_models, mlflow_server):  # noqa: PLR0917
    """A spec of an evaluation: a snapshot with 40 held-out rows, a random base model and a trained candidate."""
    name = f"evaluate_{abs(hash(request.node.name)) % 10**8}"
    application = Application(
        name=name,
        sources=[Source(uri="rows.jsonl", columns={"prompt": "text", "answer": "answer"})],
        training=Training(min_examples=1),
        evaluation=Evaluation(max_examples=30, max_new_tokens=8, batch_size=8),
        gate=Gate(min_examples=10, min_gain_over_base=0.5),
    )
    held_out = [(f"where is card number {n * 7919} of mine", tiny_models.answer, "held_out") for n in range(39)]
    rows = [("a training row", "x", "train"), *held_out, (EVIL, "no such answer", "held_out")]
    publish_day("2026-11-02", rows, application=name)
    made = snapshot.run(snapshot.Spec(application=application, storage=storage), progress)
    partition, manifest = publish_model(tiny_models.trained, application=name)
    return evaluate.Spec(
        application=application,
        storage=storage,
        snapshot=made.snapshot,
        digest=made.digest,
        model=str(partition),
        model_digest=manifest.digest,
        base_model=tiny_models.random,
    )


def file_of(result, name, tmp_path):
    partition = UPath(result.evaluation)
    return fetch(partition, require_manifest(partition, result.digest), name, tmp_path)


def test_a_trained_candidate_is_told_from_its_base_model(prepared, progress, tmp_path):
    result = evaluate.run(prepared, progress)
    assert result.examples == 30
    assert result.scores["base"]["exact_match"]["value"] == 0
    assert result.scores["candidate"]["exact_match"]["value"] > 0.9
    assert result.scores["candidate"]["loss"]["value"] < result.scores["base"]["loss"]["value"]

    # A random model babbles to the longest answer; the trained one says two words and ends.
    assert result.scores["base"]["tokens"]["value"] == 8 > result.scores["candidate"]["tokens"]["value"]
    assert result.scores["base"]["finished"]["value"] == 0 < result.scores["candidate"]["finished"]["value"]
    assert result.scores["candidate"]["latency_ms"]["value"] > 0
    assert result.scores["candidate"]["valid"]["value"] == 1
    assert not {"cost", "similarity"} & set(result.scores["candidate"])

    scores = json.loads(file_of(result, "scores.json", tmp_path).read_text())
    assert scores["decision"]["verdict"] == "PASS"
    assert scores["days"] == ["2026-11-02"]
    table = pq.read_table(file_of(result, "answers.parquet", tmp_path))
    assert table["role"].to_pylist() == ["base"] * 30 + ["candidate"] * 30
    assert table["digest"].to_pylist()[:30] == sorted(table["digest"].to_pylist()[:30])

    run = MlflowClient().search_runs([MlflowClient().get_experiment_by_name(prepared.application.name).experiment_id])[
        0
    ]
    assert run.data.metrics["candidate/exact_match"] > 0.9
    assert run.data.metrics["candidate_minus_base/exact_match_low"] > 0.5
    assert run.data.tags["nightshift.verdict"] == "PASS"
    assert run.info.run_id in result.run_url
    names = {artifact.path for artifact in MlflowClient().list_artifacts(run.info.run_id)}
    assert names == {"answers.parquet", "report.html", "scores.json"}
    assert list((UPath(prepared.storage) / ".scratch").iterdir()) == []


def test_what_users_wrote_stays_text_on_the_page_and_the_page_loads_nothing(prepared, progress, tmp_path):
    spec = prepared.model_copy(
        update={"application": prepared.application.model_copy(update={"evaluation": Evaluation(max_examples=40)})}
    )
    page = file_of(evaluate.run(spec, progress), "report.html", tmp_path).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; is this {{ 7 * 7 }} my card?" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "prefers-color-scheme: dark" in page


def test_the_same_question_is_asked_once(prepared, progress, storage):
    first = evaluate.run(prepared, progress)
    answers = UPath(storage) / prepared.application.name / "answers"
    asked = {path: path.stat().st_mtime_ns for path in answers.glob("*/manifest.json")}
    assert len(asked) == 2
    shutil.rmtree(UPath(first.evaluation).path)
    assert evaluate.run(prepared, progress) == first
    assert {path: path.stat().st_mtime_ns for path in answers.glob("*/manifest.json")} == asked


def with_suite(prepared, tmp_path, rows, **condition):
    """A spec whose application has the suite `red_lines`, of which every row must be right."""
    file = tmp_path / "red_lines.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    columns = {"prompt": "text", "answer": "answer"}
    changes = {
        "evaluation": prepared.application.evaluation.model_dump()
        | {"suites": [{"name": "red_lines", "uri": str(file), "columns": columns}]},
        "gate": prepared.application.gate.model_dump()
        | {"conditions": [{"metric": "exact_match", "suite": "red_lines", "at_least": 1.0, **condition}]},
    }
    application = Application.model_validate(prepared.application.model_dump(exclude_unset=True) | changes)
    return prepared.model_copy(update={"application": application})


def test_a_candidate_that_gets_a_red_line_wrong_is_refused_and_the_page_says_which_suite(
    prepared, progress, tmp_path, tiny_models
):
    right = [{"text": f"where is card number {n * 7919 + 1} of mine", "answer": tiny_models.answer} for n in range(5)]
    passed = evaluate.run(with_suite(prepared, tmp_path, right), progress)
    assert json.loads(file_of(passed, "scores.json", tmp_path).read_text())["decision"]["verdict"] == "PASS"
    wrong = [*right, {"text": "where is card number 4 of bob@example.org", "answer": "never say an address"}]
    refused = evaluate.run(with_suite(prepared, tmp_path, wrong), progress)
    scores = json.loads(file_of(refused, "scores.json", tmp_path / "refused").read_text())
    assert scores["decision"]["verdict"] == "FAIL"
    assert any("on the suite red_lines is 83.3%" in reason for reason in scores["decision"]["reasons"])
    assert scores["suites"]["red_lines"]["examples"] == 6
    page = file_of(refused, "report.html", tmp_path / "refused").read_text()
    assert "<h2>Suites</h2>" in page
    client = MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name(prepared.application.name).experiment_id])
    assert {round(run.data.metrics["red_lines/candidate/exact_match"], 3) for run in runs} == {1.0, 0.833}


def test_a_candidate_that_repeats_what_people_corrected_is_refused(prepared, progress, storage, tmp_path):
    wanted = {
        "traffic": {"sources": [{"uri": "log.jsonl", "columns": {"prompt": "text", "id": "n"}}]},
        "feedback": {"sources": [{"uri": "said.jsonl", "columns": {"id": "n", "answer": "b"}}], "corrections": True},
        "gate": prepared.application.gate.model_dump()
        | {"conditions": [{"metric": "exact_match", "suite": "corrections", "at_least": 0.9}]},
    }
    application = Application.model_validate(prepared.application.model_dump(exclude_unset=True) | wanted)

    def decided(name):
        made = snapshot.run(snapshot.Spec(application=application, storage=storage), progress)
        found = {"application": application, "snapshot": made.snapshot, "digest": made.digest}
        result = evaluate.run(prepared.model_copy(update=found), progress)
        return json.loads(file_of(result, "scores.json", tmp_path / name).read_text())

    nothing = decided("nothing")
    assert nothing["decision"]["verdict"] == "INSUFFICIENT_DATA"
    text = "where is card number 7919 of mine"
    row = example(text, "that card is lost", "held_out") | {"metadata": [(KIND, CORRECTION)]}
    folder = scratch(UPath(storage))
    pq.write_table(pa.Table.from_pylist([row], EXAMPLE_SCHEMA), folder / EXAMPLES)
    publish(
        partition_of(storage, application.name, CORRECTIONS, "2026-11-02"), folder, kind=CORRECTIONS,
        application=application.name, interval=application.interval_of("2026-11-02"), inputs={"planted": text},
        counts={"kept": 1},
    )  # fmt: skip
    refused = decided("refused")
    assert refused["decision"]["verdict"] == "FAIL"
    assert refused["suites"]["corrections"]["examples"] == 1


def test_an_own_scorer_counts_in_the_gate_and_a_row_without_its_value_is_no_pass(
    prepared, progress, tmp_path, monkeypatch
):
    def decided(body):
        module = f"def brief(rows):\n    return [{body} for row in rows]\n"
        (tmp_path / "tone.py").write_text(module)
        scorer = Scorer(function="tone:brief", digest=sha256(module.encode()).hexdigest())
        wanted = {"conditions": [{"metric": "brief", "at_most": 3}]}
        gate = Gate.model_validate(prepared.application.gate.model_dump(exclude_unset=True) | wanted)
        application = prepared.application.model_copy(update={"gate": gate, "scorers": {"brief": scorer}})
        result = evaluate.run(prepared.model_copy(update={"application": application}), progress)
        return json.loads(
            file_of(result, "scores.json", tmp_path / sha256(module.encode()).hexdigest()[:8]).read_text()
        )["decision"]

    (tmp_path / "apps").mkdir()
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
    assert decided("float(len(row['response'].split()))")["verdict"] == "PASS"
    assert decided("float(4 + row['response'].count('x'))")["verdict"] == "FAIL"
    nothing = decided("None if 'script' in row['prompt'] else 1.0")
    assert nothing["verdict"] == "ERROR"
    assert "brief of the candidate was not measured" in nothing["reasons"]


def test_similarity_in_meaning_is_measured_where_the_gate_bounds_it(prepared, progress):
    wanted = {"conditions": [{"metric": "similarity", "against": "base", "at_least": 0.2}]}
    gate = Gate.model_validate(prepared.application.gate.model_dump(exclude_unset=True) | wanted)
    changed = prepared.application.model_copy(update={"gate": gate})
    scores = evaluate.run(prepared.model_copy(update={"application": changed}), progress).scores
    assert scores["candidate"]["similarity"]["value"] > scores["base"]["similarity"]["value"] + 0.2


def test_a_gate_can_bound_how_often_the_chosen_answer_of_a_pair_is_the_likelier_one(
    prepared, progress, publish_day, tiny_models, tmp_path
):
    rejected = {"role": "assistant", "content": "nothing of the kind"}
    pairs = [(f"what about card {n * 7919}", tiny_models.answer, "held_out", None, rejected) for n in range(12)]
    publish_day("2026-11-03", pairs, application=prepared.application.name)
    conditions = [
        {"metric": "preference_accuracy", "at_least": 0.9},
        {"metric": "preference_accuracy", "against": "base", "at_least": 0.0, "min_examples": 13},
    ]
    gate = Gate.model_validate(prepared.application.gate.model_dump(exclude_unset=True) | {"conditions": conditions})
    evaluation = prepared.application.evaluation.model_copy(update={"max_examples": 100})
    application = prepared.application.model_copy(update={"gate": gate, "evaluation": evaluation})
    made = snapshot.run(snapshot.Spec(application=application, storage=prepared.storage), progress)
    asked = {"application": application, "snapshot": made.snapshot, "digest": made.digest}
    result = evaluate.run(prepared.model_copy(update=asked), progress)
    assert result.scores["candidate"]["preference_accuracy"]["value"] == 1.0
    reasons = json.loads(file_of(result, "scores.json", tmp_path).read_text())["decision"]["reasons"]
    assert "preference accuracy of the candidate is 100.0% [100.0%, 100.0%], at least 90.0%" in reasons
    assert any("12 judged preference pairs, at least 13 are required" in reason for reason in reasons)


def test_a_judge_that_prefers_the_other_answers_holds_a_candidate_back(prepared, progress, serve, tmp_path):
    def likes(body, prefers):
        shown = json.loads(body["messages"][1]["content"])
        if "response" in shown:
            return 200, json.dumps({"score": 0.75 if shown["response"] == shown["reference"] else 0.25})
        best = prefers("first", "second", key=lambda name: shown[name] == shown["reference"])
        return 200, json.dumps({"better": best})

    conditions = [{"metric": "judge", "at_least": 0.7}, {"metric": "win_rate", "at_least": 0.5}]
    gate = Gate.model_validate(prepared.application.gate.model_dump(exclude_unset=True) | {"conditions": conditions})

    def decided(prefers):
        judge = Judge(url=serve(lambda body: likes(body, prefers)).url, model="judge-1")
        changed = prepared.application.model_copy(update={"gate": gate, "judge": judge})
        result = evaluate.run(prepared.model_copy(update={"application": changed}), progress)
        kept = json.loads(file_of(result, "scores.json", tmp_path / prefers.__name__).read_text())
        return result.scores["candidate"], kept["decision"]

    scores, decision = decided(max)
    assert decision["verdict"] == "PASS"
    assert (scores["judge"]["value"] > 0.7, scores["win_rate"]["value"] > 0.9) == (True, True)
    assert any(reason.startswith("the judge agrees with exact match on 60 answers") for reason in decision["reasons"])
    scores, decision = decided(min)
    assert decision["verdict"] == "FAIL"
    assert any(reason.startswith("win rate of the candidate is 1.7%") for reason in decision["reasons"])


@pytest.mark.parametrize(
    ("row", "why"),
    [({"text": "   ", "answer": "x"}, "row 1 of .* is unusable, empty"), ({"text": "hi"}, "row 1 of ")],
)
def test_a_row_of_a_suite_that_cannot_be_used_ends_the_job_with_its_number(prepared, progress, tmp_path, row, why):
    with pytest.raises(BadInput, match=f"suite red_lines: {why}"):
        evaluate.run(with_suite(prepared, tmp_path, [row]), progress)


def test_where_answers_are_drawn_each_example_has_several_and_their_spread_is_told(prepared, progress, tmp_path):
    application = prepared.application.model_copy(update={"decoding": Decoding(temperature=1.0)})
    result = evaluate.run(prepared.model_copy(update={"application": application}), progress)
    table = pq.read_table(file_of(result, "answers.parquet", tmp_path))
    assert {len(others) for others in table["others"].to_pylist()} == {3}
    rights = dict(zip(table["role"].to_pylist(), table["exact_match"].to_pylist(), strict=True))
    assert set(rights.values()) <= {0, 0.25, 0.5, 0.75, 1}
    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name(application.name).experiment_id])
    assert 0 <= run.data.metrics["candidate/exact_match_spread"] < 0.5
    page = file_of(result, "report.html", tmp_path).read_text()
    assert "the mean over 4 answers to each example, drawn with temperature 1.0" in page
    assert result != evaluate.run(prepared, progress)


@pytest.mark.parametrize("positions", [64, 8])
def test_examples_that_no_model_reads_are_counted_and_are_no_evidence(  # noqa: PLR0917
    prepared, progress, publish_model, tiny_models, tmp_path, positions
):
    folders = []
    for name in ("random", "trained"):
        folder = shutil.copytree(getattr(tiny_models, name), tmp_path / f"{name}-{positions}")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": positions}))
        folders.append(str(folder))
    application = prepared.application.model_copy(
        update={"evaluation": Evaluation(max_examples=40, max_new_tokens=8), "gate": Gate(min_examples=40)}
    )
    partition, manifest = publish_model(folders[1], application=application.name, seed=positions)
    update = {
        "model": str(partition),
        "model_digest": manifest.digest,
        "base_model": folders[0],
        "application": application,
    }
    result = evaluate.run(prepared.model_copy(update=update), progress)
    scores = json.loads(file_of(result, "scores.json", tmp_path).read_text())
    too_long = 40 - result.examples
    assert too_long == (40 if positions == 8 else too_long)
    assert too_long
    assert scores["decision"]["verdict"] == "INSUFFICIENT_DATA"
    assert f"{too_long} for base, {too_long} for candidate" in scores["decision"]["reasons"][-1]
    assert "too long</th>" in file_of(result, "report.html", tmp_path).read_text()


def test_without_mlflow_it_says_so_and_the_next_try_goes_on(prepared, progress, monkeypatch, mlflow_server):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BadEnvironment, match="Is the server running"):
        evaluate.run(prepared, progress)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    assert evaluate.run(prepared, progress).examples == 30


def test_a_model_that_changed_since_it_was_trained_is_not_judged(prepared, progress):
    with pytest.raises(BadInput, match="was asked for"):
        evaluate.run(prepared.model_copy(update={"model_digest": "0" * 64}), progress)
