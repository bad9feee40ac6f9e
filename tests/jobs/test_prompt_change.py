"""A changed prompt: production answers with the released one, the candidate with its own, and no weights are copied."""

from pathlib import Path

import mlflow
import pytest
from candidates import as_version
from mlflow import MlflowClient
from upath import UPath

from nightshift.inference.engines import open_engine
from nightshift.jobs import generate, register
from nightshift.registry.models import set_alias, with_alias
from nightshift.registry.versions import CANDIDATE, CHAMPION
from nightshift.settings.decoding import Decoding
from nightshift.settings.prompt import Prompt
from nightshift.storage.manifest import require_manifest

pytestmark = pytest.mark.slow

ROW = {"digest": "d" * 64, "messages": [{"role": "user", "content": "where is my card"}]}


@pytest.fixture
def changed(judged, progress, tiny_models):
    """The spec of the champion, whose weights are a version of before there were any, and of an edit of its prompt."""
    first = judged(folder=tiny_models.random, prompt=Prompt(system="You work for a bank."))
    app = first.application.model_copy(update={"base_model": tiny_models.random})
    first = first.model_copy(update={"application": app})
    register.run(first, progress)
    register.run(as_version(first, progress), progress)
    set_alias(with_alias(app.name, CANDIDATE), CHAMPION)
    edit = {"prompt": Prompt(system="You are a pirate."), "decoding": Decoding(repetition_penalty=1.3)}
    return first, as_version(first, progress, **edit)


def answer_of(spec, tiny_models):
    engine = open_engine(Path(tiny_models.random), spec.application)
    return engine.answer([ROW], lambda _done, _of: None)[0].text


def test_mlflow_serves_each_version_with_its_own_prompt_and_stores_the_weights_once(changed, progress, tiny_models):
    first, second = changed
    name = first.application.name
    assert register.run(second, progress).aliases == ["candidate"]
    wanted = [answer_of(spec, tiny_models) for spec in changed]
    assert wanted[0] != wanted[1]
    for alias, text in zip(("champion", "candidate"), wanted, strict=True):
        reply = mlflow.pyfunc.load_model(f"models:/{name}@{alias}").predict({"messages": ROW["messages"]})
        assert reply[0]["choices"][0]["message"]["content"].strip() == text
    client = MlflowClient()
    models = client.search_logged_models([client.get_experiment_by_name(name).experiment_id])
    stored = [client.list_logged_model_artifacts(model.model_id, "model") for model in models]
    assert sorted(any(file.path.endswith(".safetensors") for file in files) for files in stored) == [False, False, True]
    parts = [client.get_model_version(name, number).tags for number in ("2", "3")]
    assert parts[0]["nightshift.part.weights"] == parts[1]["nightshift.part.weights"]
    assert parts[0]["nightshift.part.prompt"] != parts[1]["nightshift.part.prompt"]


def test_the_champion_answers_with_its_own_prompt_until_the_edit_is_released(changed, progress, publish_day):
    first, second = changed
    register.run(second, progress)
    rows = [(f"where is card number {n}", None, "traffic") for n in range(5)]
    prompts, manifest = publish_day("2026-11-03", rows, application=first.application.name)
    night = {"storage": first.storage, "prompts": str(prompts), "digest": manifest.digest}

    def prompt_of(spec):
        answered = generate.run(generate.Spec(**night, application=spec.application), progress)
        (part,) = UPath(answered.responses).iterdir()
        return require_manifest(part).inputs["prompt"]["system"]

    assert prompt_of(second) == "You work for a bank."
    set_alias(with_alias(first.application.name, CANDIDATE), CHAMPION)
    assert prompt_of(first) == "You are a pirate."


def test_an_evaluation_asks_champion_and_candidate_each_with_its_own_prompt(changed):
    _, second = changed
    evaluation = require_manifest(UPath(second.evaluation), second.evaluation_digest)
    _snapshot, *asked = evaluation.parents  # of base, champion and candidate
    prompts = [require_manifest(UPath(answers.uri)).inputs["prompt"]["system"] for answers in asked]
    assert prompts == ["You are a pirate.", "You work for a bank.", "You are a pirate."]
