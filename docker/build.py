"""Builds images of `docker-bake.hcl` from the commit: `python3 docker/build.py [airflow] [trainer] … [--push REGISTRY]`.

A tag holds the commit: nightshift-airflow:1a2b3c4d5e6f, nightshift-trainer:1a2b3c4d5e6f-cpu. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BAKE = ROOT / "docker-bake.hcl"
# What goes into images; a change elsewhere makes no other image.
CONTEXT = (
    "include", "dags", "plugins", "docker", "docker-bake.hcl", "requirements.lock", "requirements.hashes",
    "airflow_settings.yaml",
)  # fmt: skip


class CannotBuild(Exception):
    """Something about this machine or checkout; the text says what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Build what was named and return an exit code."""
    images = re.findall(r'^target "([a-z][a-z-]*)"', BAKE.read_text(), re.MULTILINE)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=f"{', '.join(images)}; default: airflow trainer")
    parser.add_argument("--push", metavar="REGISTRY", help="push there, e.g. registry.example.com/team; prints digests")
    parser.add_argument("--extra", default="", help="more packages for the airflow image, e.g. an auth manager")
    parser.add_argument("--pin", action="store_true", help="write the digests of the base images into the Dockerfiles")
    parser.add_argument("--dry-run", action="store_true", help="print what would be built, and build nothing")
    options = parser.parse_args(arguments)
    if unknown := set(options.images) - set(images):
        parser.error(f"no such image: {', '.join(sorted(unknown))}; there are {', '.join(images)}")
    try:
        if options.pin:
            pin()
        else:
            build(options.images or ["airflow", "trainer"], options.push, options.extra, dry=options.dry_run)
    except CannotBuild as problem:
        print(f"ERROR {problem}", file=sys.stderr)
        return 1
    except FileNotFoundError:
        print("ERROR there is no docker; install it with its plugin buildx", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"ERROR {error.cmd[0]} ended with {error.returncode}; its lines above say why", file=sys.stderr)
        return 1
    return 0


def build(images: list[str], registry: str | None, extra: str, *, dry: bool) -> None:
    """Build images, and push them, each with an SBOM and its provenance, where a registry is named.

    :raises CannotBuild: something that no commit holds would be pushed.
    """
    commit = commit_of(ROOT)
    if registry and commit.endswith("-dirty") and not dry:
        raise CannotBuild("there are changes that no commit holds; an image is pushed from a commit only")
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    variables = {
        "REGISTRY": f"{registry.rstrip('/')}/" if registry else "",
        "GIT_SHA": commit,
        "VERSION": version[1] if version else "unknown",
        "SOURCE": source_of(ROOT),
        "EXTRA": extra,
    }
    with tempfile.TemporaryDirectory() as folder:
        metadata = Path(folder, "metadata.json")
        target = ["--push", "--sbom=true", "--provenance=mode=max"] if registry else ["--load"]
        command = ["docker", "buildx", "bake", f"--file={BAKE.name}", *target, f"--metadata-file={metadata}", *images]
        print(" ".join(f"{key}={shlex.quote(value)}" for key, value in variables.items()), shlex.join(command))
        if dry:
            return
        subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, check=True)
        for made in json.loads(metadata.read_text()).values():
            if isinstance(made, dict) and "image.name" in made:
                name = made["image.name"].rpartition(":")[0]
                done = f"{name}@{made['containerimage.digest']}" if registry else made["image.name"]
                print(f"{'pushed' if registry else 'built'} {done}")


def commit_of(root: Path) -> str:
    """Return the commit of a checkout in 12 digits, with `-dirty` where what goes into images differs from it.

    :raises CannotBuild: this is no git checkout.
    """
    rev_parse = ["git", "rev-parse", "--short=12", "HEAD"]
    head = subprocess.run(rev_parse, cwd=root, capture_output=True, text=True, check=False)
    if head.returncode:
        raise CannotBuild(f"{root} is no git checkout, so nothing says what the image would hold")
    status = ["git", "status", "--porcelain", "--", *CONTEXT]
    changed = subprocess.run(status, cwd=root, capture_output=True, text=True, check=True).stdout
    return head.stdout.strip() + ("-dirty" if changed else "")


def source_of(root: Path) -> str:
    """Return where the code comes from: the address of `origin`, without a login in it."""
    git = ["git", "config", "--get", "remote.origin.url"]
    found = subprocess.run(git, cwd=root, capture_output=True, text=True, check=False).stdout.strip()
    return re.sub(r"//[^/@]*@", "//", found) or "unknown"


def pin() -> None:
    """Write the digest that each base image's tag has now behind the tag, in the Dockerfiles."""
    for path in sorted(ROOT.glob("docker/*/Dockerfile")):
        text = path.read_text()
        for line, tag in re.findall(r"^(ARG \w+_IMAGE=([^\s@]+).*)$", text, re.MULTILINE):
            command = ["docker", "buildx", "imagetools", "inspect", tag, "--format", "{{.Manifest.Digest}}"]
            found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            text = text.replace(line, f"{line.partition('=')[0]}={tag}@{found}")
            print(f"{path.relative_to(ROOT)}: {tag}@{found}")
        path.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
