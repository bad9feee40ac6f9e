"""Which code is running: the git commit where there is one, else the version of the package."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

from nightshift import __version__

CHECKOUT = Path(__file__).resolve().parents[2]


@cache
def code_version() -> str:
    """Return `$NIGHTSHIFT_GIT_SHA` (set in images), or the commit of this checkout (`-dirty` if changed), or the version."""
    if sha := os.environ.get("NIGHTSHIFT_GIT_SHA"):
        return sha
    # Installed by pip, it lies in no repository, or in that of somebody else.
    if not (CHECKOUT / ".git").exists():
        return __version__
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],  # noqa: S607
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return __version__
    return run.stdout.strip()
