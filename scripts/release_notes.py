"""Prints what the changelog says about a release, and refuses a tag that is not the version of the package.

.venv/bin/python scripts/release_notes.py v0.1.0
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from nightshift import __version__

CHANGELOG = Path(__file__).resolve().parent.parent / "CHANGELOG.md"


def notes(tag: str, changelog: str, version: str = __version__) -> str:
    """Return the section of the release.

    :raises SystemExit: the tag, the version and the newest heading (`## 0.1.0 - 2026-12-01`) are not the same.
    """
    heading, _, rest = changelog.partition("\n## ")[2].partition("\n")
    released = re.fullmatch(r"(\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d", heading)
    if tag != f"v{version}" or not released or released[1] != version:
        raise SystemExit(
            f"the tag is {tag}, the package says {version}, and the changelog begins with {heading!r}; a release v{version} "
            f"wants `## {version} - <day>`"
        )
    return rest.partition("\n## ")[0].strip() + "\n"


if __name__ == "__main__":
    print(notes(sys.argv[1], CHANGELOG.read_text()), end="")
