"""Prompts in MLflow's prompt registry: one version for each prompt of an application, however often it is registered.

A prompt in MLflow cannot have a model's name, so that of `banking_assistant` is called `banking_assistant.prompt`. Its version
shows the messages in MLflow's notation (`{{ message }}`), and its tags hold the settings of jobs.
"""

from __future__ import annotations

import re

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.prompt.constants import IS_PROMPT_TAG_KEY, PROMPT_EXPERIMENT_IDS_TAG_KEY

from nightshift.code_version import commit_of
from nightshift.registry.models import set_tags
from nightshift.registry.tracking import experiment_of, reachable
from nightshift.registry.versions import CANDIDATE, PROMPT_TAG, Registered, prompt_name
from nightshift.settings.project import project_folder
from nightshift.settings.prompt import Prompt

# A variable that MLflow's `format` cannot fill in: one of its parameters has this name.
PROMPT = re.compile(r"\{\{\s*prompt\s*\}\}")
DIGEST_TAG, SETTINGS_TAG, COMMIT_TAG = "nightshift.prompt_digest", "nightshift.prompt", "nightshift.commit"


def register_prompt(prompt: Prompt, digest: str, version: Registered, step: str | None = None) -> str:
    """Return the number of the registered version of a prompt, and link the model version that uses it.

    It may be interrupted and called again: existing parts are found by the digest. It becomes the `candidate`.

    :param digest: of the serialized prompt.
    :param step: name of the step whose prompt it is: a separate prompt in the registry, with this name as suffix.
    :raises BadEnvironment: MLflow cannot be reached.
    """
    client, suffix = MlflowClient(), f".{step}" if step else ""
    name = prompt_name(version.name) + suffix
    with reachable():
        number = _find(client, name, digest) or _create(client, name, prompt, digest, version)
        # MLflow exposes the id of a version's uploaded model only in its source.
        place, _, model = str(client.get_model_version(version.name, version.version).source).partition(":/")
        if place == "models":
            client.link_prompt_version_to_model(name, number, model)
        client.set_prompt_alias(name, CANDIDATE, int(number))
    set_tags(version, {PROMPT_TAG + suffix: number})
    return number


def _find(client: MlflowClient, name: str, digest: str) -> str | None:
    found = client.search_model_versions(
        f"name = '{name}' AND tag.`{IS_PROMPT_TAG_KEY}` = 'true' AND tag.`{DIGEST_TAG}` = '{digest}'"
    )
    return str(min(int(version.version) for version in found)) if found else None


def _create(client: MlflowClient, name: str, prompt: Prompt, digest: str, version: Registered) -> str:
    try:
        client.create_prompt(name, description=f"The prompt of {version.name}.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # The tag with which MLflow's pages show the prompt in the application's experiment.
    client.set_prompt_tag(name, PROMPT_EXPERIMENT_IDS_TAG_KEY, f",{experiment_of(client, version.name)},")
    commit = commit_of(project_folder())
    tags = {DIGEST_TAG: digest, SETTINGS_TAG: prompt.model_dump_json(), **({COMMIT_TAG: commit} if commit else {})}
    said = f"first registered with version {version.version} of the model"
    return str(client.create_prompt_version(name, _written(prompt), description=said, tags=tags).version)


def _written(prompt: Prompt) -> list[dict[str, str]]:
    """The messages in the notation of MLflow's `format`."""
    written = prompt.written
    texts = [turn["content"] for turn in written]
    if any("{%" in text or re.search(r"\bmessage\b[^{]*\}\}", text) for text in texts):
        return written
    return [turn | {"content": PROMPT.sub("{{ message }}", turn["content"])} for turn in written]
