"""Versions of an application's model in the MLflow registry: one for each trained model, however often it is registered.

The registered model has the application's name. The alias `candidate` is the version that was
registered last (a model that was registered before keeps its version), `champion` the one in use.
Every function raises BadEnvironment if MLflow cannot be reached.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from nightshift.registry.rest import NO_SUCH
from nightshift.registry.server import pages
from nightshift.registry.tracking import experiment_of, reachable
from nightshift.registry.versions import DIGEST_TAG, MODEL_TAG, WHOLE_TAG, Registered

Package = Callable[[LoggedModel, LoggedModel | None], Path]


def with_alias(name: str, alias: str) -> Registered | None:
    """Return the version with an alias, or None."""
    return _found(lambda: MlflowClient().get_model_version_by_alias(name, alias))


def version_of(name: str, version: str) -> Registered | None:
    """Return a version by its number, or None."""
    return _found(lambda: MlflowClient().get_model_version(name, version))


def _found(ask: Callable[[], ModelVersion]) -> Registered | None:
    try:
        with reachable():
            return _registered(ask())
    except MlflowException as error:
        if error.error_code in NO_SUCH:
            return None
        raise


def all_versions(name: str) -> list[tuple[Registered, list[str]]]:
    """Return all versions of a model in order, each with its aliases."""
    with reachable():
        found = MlflowClient().search_model_versions(f"name = '{name}'")
        aliases = MlflowClient().get_registered_model(name).aliases if found else {}
    versions = sorted((_registered(version) for version in found), key=lambda version: int(version.version))
    return [(one, sorted(name for name, version in aliases.items() if str(version) == one.version)) for one in versions]


def find_version(name: str, digest: str) -> Registered | None:
    """Return the version of the model with this digest, or None."""
    with reachable():
        found = MlflowClient().search_model_versions(f"name = '{name}' and tags.`{DIGEST_TAG}` = '{digest}'")
    return _registered(min(found, key=lambda version: int(version.version))) if found else None


def register(
    name: str,
    *,
    model: str,
    digest: str,
    weights: str,
    tags: Mapping[str, str],
    description: str,
    package: Package,
    run_id: str | None,
) -> Registered:
    """Return the version of the model with this digest, created if necessary; its tags and description are updated.

    It may be interrupted and called again: existing parts are found by the digest.

    :param model: URI of the version's partition.
    :param weights: digest of its weights, which are not uploaded if MLflow has them.
    :param package: makes the local folder to upload for a new model, given the one with the same weights, if any; called
        only if the version is not in MLflow yet.
    :param run_id: the run that trained the model.
    """
    client = MlflowClient()
    tags = {**tags, MODEL_TAG: model, DIGEST_TAG: digest}
    found = find_version(name, digest)
    with reachable():
        if found is None:
            logged = _logged_model(client, name, digest, weights, package, run_id)
            _create_registered_model(client, name)
            version = client.create_model_version(
                name, f"models:/{logged.model_id}", run_id, tags=tags, description=description, model_id=logged.model_id
            )
        else:
            version = client.get_model_version(name, found.version)
            client.update_model_version(name, version.version, description)
        for key, value in tags.items():
            if version.tags.get(key) != value:
                client.set_model_version_tag(name, version.version, key, value)
        return _registered(client.get_model_version(name, version.version))


def set_alias(registered: Registered, alias: str) -> None:
    """Move an alias to a version."""
    with reachable():
        MlflowClient().set_registered_model_alias(registered.name, alias, registered.version)


def set_tags(registered: Registered, tags: Mapping[str, str]) -> None:
    """Set tags of a version."""
    with reachable():
        for key, value in tags.items():
            MlflowClient().set_model_version_tag(registered.name, registered.version, key, value)


def aliases_of(registered: Registered) -> list[str]:
    """Return the current aliases of a version, in order."""
    with reachable():
        aliases = MlflowClient().get_registered_model(registered.name).aliases
    return sorted(alias for alias, version in aliases.items() if str(version) == registered.version)


def _registered(version: ModelVersion) -> Registered:
    return Registered.of(pages(MlflowClient().tracking_uri), version.name, version.version, dict(version.tags))


def _logged_model(  # noqa: PLR0917
    client: MlflowClient, name: str, digest: str, weights: str, package: Package, run_id: str | None
) -> LoggedModel:
    """The uploaded model with this digest; an interrupted upload is repeated in place."""
    experiment = experiment_of(client, name)

    def tagged(tag: str, value: str) -> list[LoggedModel]:
        return list(client.search_logged_models([experiment], f"tags.`{tag}` = '{value}'"))

    found = tagged(DIGEST_TAG, digest)
    if ready := _ready(found):
        return ready
    # The first model with these weights holds them; an older upload is found by its own digest.
    whole = _ready(tagged(WHOLE_TAG, weights)) or _ready(tagged(DIGEST_TAG, weights))
    tags = {DIGEST_TAG: digest, **({} if whole else {WHOLE_TAG: weights})}
    logged = found[0] if found else client.create_logged_model(experiment, f"{name}-{digest[:8]}", run_id, tags=tags)
    if run_id:
        _link(client, run_id, logged.model_id)
    client.log_model_artifacts(logged.model_id, str(package(logged, whole)))
    return client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)


def _ready(models: list[LoggedModel]) -> LoggedModel | None:
    return next((logged for logged in models if logged.status == LoggedModelStatus.READY), None)


def _link(client: MlflowClient, run_id: str, model_id: str) -> None:
    """Link the model to its run; MLflow refuses to link it twice."""
    outputs = client.get_run(run_id).outputs
    if model_id not in {output.model_id for output in (outputs.model_outputs if outputs else [])}:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])


def _create_registered_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
