"""Fails unless this environment holds exactly what lock files say: `python check_installed.py requirements.lock …`."""

import re
import sys
from importlib.metadata import distributions
from pathlib import Path

# What installs the rest; an image's base may bring it along.
INSTALLERS = {"pip", "uv", "wheel"}


def main(locks: list[str]) -> int:
    """Compare both ways and return an exit code."""
    pinned = {name: version for lock in locks for name, version in pins(Path(lock).read_text()).items()}
    # The build of torch (+cpu, +cu130) is chosen by the image; a lock names only the version.
    installed = {normal(found.name): found.version.partition("+")[0] for found in distributions()}
    wrong = [
        f"{name}: the lock says {pinned.get(name, 'nothing')}, installed is {installed.get(name, 'nothing')}"
        for name in sorted(pinned.keys() | installed.keys() - INSTALLERS)
        if pinned.get(name) != installed.get(name)
    ]
    print("\n".join(wrong) or f"{len(installed)} packages are those of {', '.join(locks)}")
    return 1 if wrong else 0


def pins(text: str) -> dict[str, str]:
    """Return name and version of every line of a lock."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", text, re.MULTILINE)
    return {normal(name): version for name, version in found}


def normal(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
