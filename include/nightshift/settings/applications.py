"""Reading application and compute files, with errors that name file, line, key, value and what is allowed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from nightshift.errors import BadInput
from nightshift.settings.application import Application
from nightshift.settings.compute import BACKENDS, Compute, KubernetesCompute
from nightshift.settings.intake import Source
from nightshift.settings.project import PACKAGE, project_folder
from nightshift.settings.retrieval import Documents, Embedder, Reranker, Retrieval
from nightshift.settings.scorers import PROJECT
from nightshift.settings.search import RetrievalChoice
from nightshift.settings.yaml_file import BadYaml, line_of, nodes_of, problem, read_yaml

if TYPE_CHECKING:
    import yaml

FileModel = TypeVar("FileModel", bound=BaseModel)
Place = TypeVar("Place", Source, Documents)
Retrieves = TypeVar("Retrieves", Retrieval, RetrievalChoice)


class BadApplication(BadInput):
    """A file that cannot be read as what it should be; the text lists every problem, one a line."""


class NoSuchFile(BadApplication):
    """There is no file of this name; the text lists those that there are."""


def applications_folder() -> Path:
    """Return the folder with the project's application files."""
    return project_folder() / "apps"


def application_names() -> list[str]:
    """Return the names of all application files, readable or not, in order. A `.yml` is one, that cannot be read."""
    return sorted({path.stem for path in applications_folder().glob("*.y*ml") if path.suffix in {".yaml", ".yml"}})


def readable_applications() -> list[Application]:
    """Return every application whose file can be read."""
    applications = []
    for name in application_names():
        with suppress(BadApplication):
            applications.append(load_application(name))
    return applications


def every_application() -> list[Application]:
    """Return every application, for what must not leave one out.

    :raises BadApplication: a file is wrong, or there is none.
    """
    names = application_names()
    if not names:
        raise BadApplication(f"there is no application file in {applications_folder()}")
    return [load_application(name) for name in names]


def load_application(name: str) -> Application:
    """Return the application `name`.

    :raises BadApplication: the file is missing or wrong.
    """
    return read_application(applications_folder() / f"{name}.yaml")


def read_application(path: Path) -> Application:
    """Return the application in the file `path`; relative paths start at its folder.

    :raises BadApplication: the file is missing or wrong.
    """
    application = _check(Application, path, _read(path))
    model, traffic, ingest = application.base_model, application.traffic, application.ingest
    judged, retrieval, feedback = application.evaluation, application.retrieval, application.feedback
    if retrieval:
        documents = _from_folder(retrieval.documents, path.parent)
        retrieval = _with_models(retrieval.model_copy(update={"documents": documents}), path.parent)
    if search := application.search:
        tried = {"retrieval": [_with_models(one, path.parent) for one in search.choices.retrieval]}
        search = search.model_copy(update={"choices": search.choices.model_copy(update=tried)})
    if names := ingest.names:
        of_languages = {language: _from_file(one, path.parent) for language, one in names.models.items()}
        ingest = ingest.model_copy(update={"names": names.model_copy(update={"models": of_languages})})
    return application.model_copy(
        update={
            "base_model": _from_file(model, path.parent),
            "ingest": ingest,
            "sources": _from_folder(application.sources, path.parent),
            "retrieval": retrieval,
            "search": search,
            "traffic": traffic.model_copy(update={"sources": _from_folder(traffic.sources, path.parent)}),
            "feedback": feedback
            and feedback.model_copy(update={"sources": _from_folder(feedback.sources, path.parent)}),
            "evaluation": judged.model_copy(update={"suites": _from_folder(judged.suites, path.parent)}),
        }
    )


def _from_folder(sources: list[Place], folder: Path) -> list[Place]:
    return [
        source.model_copy(update={"uri": _absolute(source.uri, folder)})
        if source.uri and "://" not in source.uri and not source.uri.startswith("/")
        else source
        for source in sources
    ]


def _with_models(settings: Retrieves, folder: Path) -> Retrieves:
    named: dict[str, Embedder | Reranker | None] = {"embedder": settings.embedder, "reranker": settings.reranker}
    models = {key: one.model_copy(update={"model": _from_file(one.model, folder)}) for key, one in named.items() if one}
    return settings.model_copy(update=models)


def _from_file(model: str, folder: Path) -> str:
    """A model that a file of the folder names. Anything else without a scheme is a package, or the id of one of the hub."""
    return _absolute(model, folder) if model.startswith(("../", "./")) else model


def _absolute(path: str, folder: Path) -> str:
    """The path from a folder on. A link stays in it: what synchronises a repository moves one, and removes what it led to."""
    return os.path.normpath(folder / path)


def load_compute(name: str) -> Compute:
    """Return the compute profile `name`: the project's own, or else the one that comes with the package.

    A relative path of a template starts at the profile's folder.

    :raises BadApplication: the file is missing or wrong.
    """
    path = project_folder() / "compute" / f"{name}.yaml"
    try:
        fields = _read(path)
    except NoSuchFile:
        path = PACKAGE / "compute" / path.name
        if not path.exists():
            raise
        fields = _read(path)
    fields = fields or {}
    backend = fields.get("backend", "local") if isinstance(fields, dict) else "local"
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise BadApplication(f"{path}: backend: there are {', '.join(BACKENDS)}; you wrote {backend!r}")
    compute = _check(BACKENDS[backend], path, fields)
    if isinstance(compute, KubernetesCompute) and compute.template:
        return compute.model_copy(update={"template": str(path.parent / compute.template)})
    return compute


def clusters() -> list[tuple[KubernetesCompute, list[Application]]]:
    """Return one compute profile of each namespace that jobs run in, with the applications whose jobs they are."""
    found: dict[tuple[str, str], tuple[KubernetesCompute, dict[str, Application]]] = {}
    for app in readable_applications():
        for name in sorted(set(app.compute.values())):
            with suppress(BadApplication):
                compute = load_compute(name)
                if isinstance(compute, KubernetesCompute):
                    place = (compute.connection, compute.namespace)
                    found.setdefault(place, (compute, {}))[1][app.name] = app
    return [(compute, list(apps.values())) for compute, apps in found.values()]


def _read(path: Path) -> Any:
    other = path.with_suffix(".yml")
    if path.suffix == ".yml" or (other.exists() and not path.exists()):
        raise BadApplication(f"{other}: only `.yaml` is read; call it {other.stem}.yaml")
    try:
        return read_yaml(path)
    except FileNotFoundError:
        known = ", ".join(sorted(other.stem for other in path.parent.glob("*.yaml"))) or "no YAML file"
        raise NoSuchFile(f"{path}: there is no such file; {path.parent} has {known}") from None
    except BadYaml as error:
        raise BadApplication(str(error)) from error


def _check(model: type[FileModel], path: Path, fields: Any) -> FileModel:
    """The fields of a file as a model, under the file's name."""
    named = isinstance(fields, dict) and "name" in fields
    if isinstance(fields, dict):
        fields = {**fields, "name": path.stem}
    try:
        checked = model.model_validate(fields, context={PROJECT: project_folder()})
        errors = []
    except ValidationError as error:
        errors = error.errors()
    if errors or named:
        # Where things stand in a file takes as long as all the rest, and is only asked of a wrong one.
        root = nodes_of(path)
        said = [f"{path}:{line_of(root, ('name',))}: name: unknown key; the file's name is the name"] if named else []
        raise BadApplication("\n".join([*said, *(_problem(model, path, root, dict(item)) for item in errors)]))
    return checked


def _problem(model: type[BaseModel], path: Path, root: yaml.Node | None, item: Mapping[str, Any]) -> str:
    if item["loc"] == ("name",):
        guess = re.sub("[^a-z0-9]+", "_", path.stem.lower()).strip("_0123456789") or "name"
        return (
            f"{path}: the file's name is what DAGs and folders are called: small letters, digits and `_`, a letter "
            f"first, at most 63; call it {guess}.yaml"
        )
    return problem(model, path, root, item, given="name")


def application_schema() -> dict[str, Any]:
    """Return the JSON Schema of an application file, for editors."""
    return _file_schema(Application, "Nightshift application")


def compute_schema() -> dict[str, Any]:
    """Return the JSON Schema of a Kubernetes profile, for editors."""
    return _file_schema(KubernetesCompute, "Nightshift compute profile")


def _file_schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    """The schema of a file that gives a model all but its name."""
    schema = model.model_json_schema()
    schema["properties"].pop("name")
    schema["required"].remove("name")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}
