"""The samples: the quick one, whose project is the package, and two with a stack of their own."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Mapping
from pathlib import Path

from nightshift.settings.project import PACKAGE, PROJECT_VARIABLE
from nightshift.stack.place import CHECKOUT, INSTALLED, Place

SAMPLES = QUICK, FULL, DOCUMENTS = "quick", "full", "documents"
FOLDERS = PACKAGE / "samples"
HOMES = (Path.home() if INSTALLED.is_dir() else CHECKOUT) / ".nightshift"


def variables_of(sample: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the home and the project of a sample's stack; nothing for the quick one, which has what is the default.

    The project of the documents sample is a copy in the stack's home, because documents arrive in it as days pass.
    """
    if sample == QUICK:
        return {}
    home = Path(environment.get("NIGHTSHIFT_HOME") or HOMES / sample).expanduser().absolute()
    project = FOLDERS / sample
    if sample == DOCUMENTS:
        for folder in ("apps", "questions"):
            copy(project / folder, home / "project" / folder)
        project = home / "project"
    return {"NIGHTSHIFT_HOME": str(home), PROJECT_VARIABLE: str(project)}


def sample_of(place: Place) -> str | None:
    """Return which sample a stack serves; None: a team's project."""
    return {PACKAGE: QUICK, FOLDERS / FULL: FULL, place.home / "project": DOCUMENTS}.get(place.project)


def copy(source: Path, target: Path) -> None:
    """Copy the files of a folder that differ into another one. Whoever reads there sees each as it was or as it is."""
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.iterdir()):
        there, part = target / file.name, target / f".{file.name}.part"
        if not there.exists() or not filecmp.cmp(file, there, shallow=False):
            shutil.copyfile(file, part)
            part.replace(there)
