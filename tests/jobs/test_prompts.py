"""The prompts of registered models in MLflow's prompt registry, and what changed between two of them."""

import json
import subprocess

import mlflow
import pytest
from candidates import as_version
from mlflow import MlflowClient

from nightshift.cli import main
from nightshift.jobs import register
from nightshift.registry.models import version_of
from nightshift.registry.prompts import register_prompt
from nightshift.registry.rest import Mlflow
from nightshift.settings.prompt import Prompt
from nightshift.storage.manifest import digest_of

pytestmark = pytest.mark.slow

PLAIN = Prompt(system="You work for a bank.")
WITH_AN_EXAMPLE = Prompt(
    file={
        "template": "You work for a bank.\n<message role='user'>hi</message><message role='assistant'>hello</message>\n"
        "Message: {{$prompt}}",
    }
)


@pytest.fixture
def committed(tmp_path, monkeypatch):
    """A project folder in a repository with one commit, which is returned."""
    folder = tmp_path / "project"
    (folder / "apps").mkdir(parents=True)
    git = ["git", "-C", folder, "-c", "user.name=team", "-c", "user.email=team@example.com"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(folder))
    run = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return folder, run.stdout.strip()


def test_each_prompt_is_registered_once_and_linked_with_the_versions_that_answer_with_it(  # noqa: PLR0917
    judged, progress, committed, mlflow_server, tiny_models, capsys
):
    folder, commit = committed
    spec = judged(prompt=PLAIN)
    edited = spec.application.model_copy(update={"base_model": tiny_models.random})
    spec = spec.model_copy(update={"application": edited})
    app = register.run(as_version(spec, progress), progress).name
    # Whoever moves the alias of the model moves that of its prompt.
    with Mlflow({"MLFLOW_TRACKING_URI": mlflow_server}) as server:
        server.set_alias(server.version_of(app, "1"), "champion")
    register.run(as_version(spec, progress, prompt=WITH_AN_EXAMPLE), progress)
    client, name = MlflowClient(), f"{app}.prompt"
    assert [client.get_model_version(app, number).tags["nightshift.prompt_version"] for number in "12"] == ["1", "2"]
    aliases = {alias: client.get_prompt_version_by_alias(name, alias).version for alias in ("champion", "candidate")}
    assert aliases == {"champion": 1, "candidate": 2}

    first, second = (client.get_prompt_version(name, number) for number in "12")
    assert commit.startswith(first.tags["nightshift.commit"])
    assert Prompt.model_validate_json(second.tags["nightshift.prompt"]) == WITH_AN_EXAMPLE
    assert [message["role"] for message in second.template] == ["system", "user", "assistant", "user"]
    assert second.format(message="Where is it?")[-1]["content"] == "Message: Where is it?"
    model = client.get_model_version(app, "2").source.removeprefix("models:/")
    assert json.loads(client.get_logged_model(model).tags["mlflow.linkedPrompts"]) == [{"name": name, "version": "2"}]
    experiment = client.get_experiment_by_name(app).experiment_id
    assert [found.name for found in mlflow.genai.search_prompts(f"experiment_id = '{experiment}'")] == [name]

    (folder / "apps" / f"{app}.yaml").write_text(
        "sources: [{uri: rows.csv, columns: {prompt: text}}]\nprompt: {system: You work for a shop.}\n"
    )
    capsys.readouterr()
    assert main(["prompts", "diff", "champion", "2"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [f"--- {app} version 1", f"+++ {app} version 2"]
    assert {"-{{ prompt }}", "+hi", "+[assistant]", "+hello", "+Message: {{ prompt }}"} <= set(said)
    assert said[-3].startswith(f"exact match of {app} version 1: ")
    assert said[-2].startswith(f"exact match of {app} version 2: ")
    assert said[-2].endswith(", 20 examples")
    assert said[-1].startswith("difference on the same 20 examples: ")
    assert main(["prompts", "diff", "2", "working"]) == 0
    assert f"+++ {app} as its file is now\n" in (said := capsys.readouterr().out)
    assert "+You work for a shop." in said
    assert main(["prompts", "diff", "9", "working"]) == 65
    assert "has no version '9'" in capsys.readouterr().err

    plain = digest_of(PLAIN.model_dump(mode="json"))
    assert register_prompt(PLAIN, plain, version_of(app, "2")) == "1"
    assert len(client.search_prompt_versions(name)) == 2

    # A step is a prompt of its own, whose aliases move with the model's as well.
    asking = Prompt(file={"template": "Which intent? {{$prompt}}"})
    assert register_prompt(asking, digest_of(asking.model_dump(mode="json")), version_of(app, "2"), "intent") == "1"
    with Mlflow({"MLFLOW_TRACKING_URI": mlflow_server}) as server:
        server.set_alias(server.version_of(app, "2"), "champion")
    assert [client.get_prompt_version_by_alias(one, "champion").version for one in (name, f"{name}.intent")] == [1, 1]
