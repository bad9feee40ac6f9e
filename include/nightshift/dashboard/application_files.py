"""The applications by their files; a file is parsed again only after it changed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from nightshift.access.permissions import DAGS
from nightshift.settings.application import Application
from nightshift.settings.applications import BadApplication, application_names, applications_folder, load_application


@dataclass(frozen=True)
class ApplicationFile:
    """An application by its name; `settings` is None if its file cannot be read, and `wrong` says why."""

    name: str
    settings: Application | None
    wrong: str = ""


def known_applications() -> list[ApplicationFile]:
    """Return every application that has a file, readable or not, in order of name."""
    return [known_application(name) for name in application_names()]


def known_application(name: str) -> ApplicationFile:
    """Return an application that has a file."""
    path = applications_folder() / f"{name}.yaml"
    try:
        stamp = path.stat()
    except OSError as error:
        return ApplicationFile(
            name, None, f"{path.name} cannot be read: {error.strerror}; an application's file ends in .yaml"
        )
    # The ctime as well: a change of permissions changes no content.
    return _read(name, path, (stamp.st_mtime_ns, stamp.st_ctime_ns, stamp.st_size))


@lru_cache(maxsize=1_000)
def _read(name: str, _path: Path, _stamp: tuple[int, ...]) -> ApplicationFile:
    try:
        return ApplicationFile(name, load_application(name))
    except BadApplication as error:
        return ApplicationFile(name, None, str(error))


def application_of(dag_id: str) -> str | None:
    """Return the application that a DAG belongs to, or None."""
    names = set(application_names())
    for kind in DAGS:
        name = dag_id.removesuffix(f"_{kind}")
        if name != dag_id and name in names:
            return name
    return None
