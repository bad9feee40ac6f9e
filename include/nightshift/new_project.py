"""Making a project folder with one application that a person fills in: what `nightshift init` writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from nightshift.errors import BadEnvironment, BadInput
from nightshift.settings.applications import application_schema, compute_schema
from nightshift.settings.fields import Name
from nightshift.settings.project import PACKAGE
from nightshift.settings.prompt_file import prompt_schema

TEMPLATE = PACKAGE / "samples" / "project"
HIDDEN = ("dockerignore", "gitignore")  # in a project with a dot, which a package would not hold


def make_project(folder: Path, application: str) -> tuple[list[Path], list[Path]]:
    """Write what a project folder lacks, and return the files that were written and those that were there and stay.

    :raises BadInput: an application cannot have this name.
    :raises BadEnvironment: the folder cannot be written.
    """
    try:
        TypeAdapter(Name).validate_python(application)
    except ValidationError:
        raise BadInput(
            f"{application!r} cannot be the name of an application: small letters, digits and `_`, a letter first, no `_` "
            "at the end, at most 63"
        ) from None
    written, kept = [], []
    for name, text in _files(application):
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            if not path.is_file():
                raise BadEnvironment(f"{path} cannot be written: something else is in its place") from None
            kept.append(path)
        except OSError as error:
            raise BadEnvironment(f"{path} cannot be written: {error.strerror}") from error
        else:
            written.append(path)
    return written, kept


def _files(application: str) -> Iterator[tuple[str, str]]:
    """The files of a new project, by their path in it."""
    start = f"{date.today():%Y-%m-%d}"
    own = {f"{folder}/application.yaml": f"{folder}/{application}.yaml" for folder in ("apps", "prompts")}
    names = own | {name: f".{name}" for name in HIDDEN}
    for path in sorted(file for file in TEMPLATE.rglob("*") if file.is_file()):
        name = path.relative_to(TEMPLATE).as_posix()
        name = names.get(name, name)
        yield name, path.read_text(encoding="utf-8").replace("APPLICATION", application).replace("START", start)
    schemas = {"application": application_schema(), "compute": compute_schema(), "prompt": prompt_schema()}
    for name, schema in schemas.items():
        yield f"schemas/{name}.json", json.dumps(schema, indent=2) + "\n"
