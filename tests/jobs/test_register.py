"""The register job against a real MLflow server: one version for each model, wherever it was stopped."""

from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from upath import UPath

from nightshift.errors import BadEnvironment, BadInput
from nightshift.inference.engines import open_engine
from nightshift.jobs import register
from nightshift.registry.models import with_alias
from nightshift.registry.versions import CHAMPION
from nightshift.settings.decoding import Decoding
from nightshift.settings.policies import Inference
from nightshift.settings.prompt import Prompt
from nightshift.verdict import Verdict

pytestmark = pytest.mark.slow


class Stopped(BaseException):
    """What happens instead of a call when the process is killed before it."""


def versions(spec):
    return MlflowClient().search_model_versions(f"name = '{spec.application.name}'")


def test_each_model_becomes_a_version_and_the_newest_is_the_candidate(judged, progress):
    first = register.run(judged(seed=1), progress)
    assert (first.verdict, first.version, first.aliases) == (Verdict.PASS, "1", ["candidate"])
    second_spec = judged(seed=2)
    second = register.run(second_spec, progress)
    assert (second.verdict, second.version, second.aliases) == (Verdict.PASS, "2", ["candidate"])
    assert with_alias(second.name, CHAMPION) is None
    tags = MlflowClient().get_model_version(second.name, "2").tags
    assert tags["nightshift.model"] == second_spec.model
    assert tags["nightshift.model_digest"] == second_spec.model_digest
    assert tags["nightshift.evaluation"] == second_spec.evaluation
    assert tags["nightshift.verdict"] == "PASS"
    assert "exact match" in MlflowClient().get_model_version(second.name, "2").description


def test_a_candidate_that_fails_its_gate_is_registered_with_its_verdict(judged, progress, tiny_models):
    failed = register.run(judged(folder=tiny_models.random, min_score=0.5), progress)
    assert failed.verdict is Verdict.FAIL
    assert failed.aliases == ["candidate"]
    assert any("exact match of the candidate is 0.0%" in reason for reason in failed.reasons)
    assert MlflowClient().get_model_version(failed.name, failed.version).tags["nightshift.verdict"] == "FAIL"


def test_the_version_loads_back_answers_and_holds_nothing_that_runs_code(judged, progress, tiny_models, tmp_path):
    result = register.run(judged(), progress)
    uri = f"models:/{result.name}@candidate"
    pipeline = mlflow.transformers.load_model(uri)
    messages = [{"role": "user", "content": "where is card number 7919 of mine"}]
    said = pipeline(messages, max_new_tokens=8, do_sample=False)[0]["generated_text"][-1]["content"]
    assert said == tiny_models.answer
    chat = mlflow.pyfunc.load_model(uri)
    reply = chat.predict({"messages": messages, "max_tokens": 8, "temperature": 0.01})
    assert reply[0]["choices"][0]["message"]["content"].startswith(tiny_models.answer[:4])

    folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path / "files")))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja", ".txt", ".yaml", ".md", ""}
    # Pickles (also inside zip archives, as torch writes them) begin with these bytes.
    assert not [path for path in files if path.read_bytes()[:2] in {b"\x80\x04", b"\x80\x02", b"PK"}]
    assert "Fine-tuned from" in (folder / "model_card.md").read_text()


def test_whoever_serves_the_version_gets_the_answers_of_the_application(judged, progress, tiny_models):
    spec = judged(
        folder=tiny_models.random,
        prompt=Prompt(system="You work for a bank.", user="Message: {prompt}"),
        decoding=Decoding(repetition_penalty=1.3),
        inference=Inference(max_new_tokens=12),
    )
    result = register.run(spec, progress)
    turns = [{"role": "user", "content": "where is my card"}]
    row = {"digest": "d" * 64, "messages": turns}
    (expected,) = open_engine(Path(tiny_models.random), spec.application).answer([row], lambda _done, _of: None)
    chat = mlflow.pyfunc.load_model(f"models:/{result.name}@candidate")
    reply = chat.predict({"messages": turns})
    assert reply[0]["choices"][0]["message"]["content"].strip() == expected.text != ""
    plain = open_engine(Path(tiny_models.random), spec.application.model_copy(update={"prompt": Prompt()}))
    assert plain.answer([row], lambda _done, _of: None)[0].text != expected.text


def test_killed_before_any_call_to_mlflow_the_next_try_makes_it_whole(judged, progress, monkeypatch):
    changing = [
        "create_logged_model", "log_outputs", "log_model_artifacts", "finalize_logged_model", "create_registered_model",
        "create_model_version", "set_registered_model_alias", "create_prompt", "create_prompt_version",
        "link_prompt_version_to_model", "set_prompt_alias",
    ]  # fmt: skip
    spec = judged()
    for method in changing:
        with monkeypatch.context() as kill:

            def die(*_args, **_kwargs):
                raise Stopped

            kill.setattr(MlflowClient, method, die)
            with pytest.raises(Stopped):
                register.run(spec, progress)
    result = register.run(spec, progress)
    assert register.run(spec, progress) == result
    assert result.aliases == ["candidate"]
    training_run = MlflowClient().get_run(result.run_url.rpartition("/")[2])
    assert len(training_run.outputs.model_outputs) == 1
    assert [str(version.version) for version in versions(spec)] == ["1"]
    experiment = MlflowClient().get_experiment_by_name(result.name).experiment_id
    assert len(MlflowClient().search_logged_models([experiment])) == 1
    assert len(MlflowClient().search_prompt_versions(f"{result.name}.prompt")) == 1


def test_without_mlflow_it_says_so_and_loses_nothing(judged, progress, monkeypatch, mlflow_server):
    spec = judged()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BadEnvironment, match="Is the server running"):
        register.run(spec, progress)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    assert register.run(spec, progress).version == "1"


def test_an_evaluation_of_another_model_registers_nothing(judged, progress):
    one, other = judged(seed=1), judged(seed=2)
    mixed = one.model_copy(update={"evaluation": other.evaluation, "evaluation_digest": other.evaluation_digest})
    # Both have the same weights; what counts is which partition was judged.
    if one.model_digest == other.model_digest:
        pytest.fail("the two models should differ in their inputs")
    with pytest.raises(BadInput, match="judged another candidate"):
        register.run(mixed, progress)
    assert versions(one) == []


def test_a_model_with_a_pickle_in_it_is_refused(judged, progress, tiny_models, tmp_path, monkeypatch):
    import shutil

    unsafe = tmp_path / "unsafe"
    shutil.copytree(tiny_models.trained, unsafe)
    (unsafe / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    spec = judged(folder=str(unsafe))
    assert UPath(spec.model).exists()
    with pytest.raises(BadInput, match=r"pytorch_model\.bin"):
        register.run(spec, progress)
    assert versions(spec) == []
