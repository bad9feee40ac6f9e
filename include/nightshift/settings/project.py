"""The project folder: a team's applications, compute profiles and what they refer to, outside of the package."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from nightshift.errors import BadInput

PROJECT_VARIABLE = "NIGHTSHIFT_PROJECT"
PACKAGE = Path(__file__).parents[1]  # the project of the sample, where no other is named
REPLACED = ("NIGHTSHIFT_APPS", "NIGHTSHIFT_COMPUTE")  # by which earlier versions named two folders of a project


def project_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder that `$NIGHTSHIFT_PROJECT` names, or the package, which holds the sample.

    :raises BadInput: there is no such folder or no `apps` in it, or a variable is set that is no longer read.
    """
    variables = os.environ if environment is None else environment
    for name in REPLACED:
        if name in variables:
            raise BadInput(
                f"{name} is set and no longer read: name the folder that holds apps/ and compute/ in {PROJECT_VARIABLE}, "
                f"and unset {name}"
            )
    named = variables.get(PROJECT_VARIABLE)
    if not named:
        return PACKAGE
    folder = Path(named).expanduser().absolute()
    if not (folder / "apps").is_dir():
        raise BadInput(
            f"{PROJECT_VARIABLE}={named}: there is no folder {folder / 'apps'} here; `nightshift init FOLDER` makes a project"
        )
    return folder
