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
    return (commit_of(CHECKOUT) if (CHECKOUT / ".git").exists() else None) or __version__


def commit_of(folder: Path) -> str | None:
    """Return the commit of a folder's repository (`-dirty` if changed); None: it lies in none, or git cannot tell."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],  # noqa: S607
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip()
