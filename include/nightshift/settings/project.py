"""The project folder: a team's applications, compute profiles and own modules, outside of the package."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).parents[1]  # holds the sample's application and profiles, where no project is named


def project_folder() -> Path:
    """The folder of the team's project: `$NIGHTSHIFT_PROJECT`, or the package with its sample."""
    return Path(os.environ.get("NIGHTSHIFT_PROJECT") or PACKAGE)
