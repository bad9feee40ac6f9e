"""Builds the images: `python3 docker/build.py [airflow] [trainer] [trainer-cuda] [vllm] [vllm-cuda] [--push REGISTRY]`.

Works with docker, podman, nerdctl or buildah, whichever is there. A tag holds the commit: nightshift-airflow:1a2b3c4d5e6f,
nightshift-trainer:1a2b3c4d5e6f-cpu, nightshift-trainer:1a2b3c4d5e6f-cuda. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENGINES = ("docker", "podman", "nerdctl", "buildah")
CONTEXT = ("include", "dags", "plugins", "docker", "requirements.lock", "airflow_settings.yaml", ".dockerignore")


class CannotBuild(Exception):
    """Something about this machine or checkout; the text says what to do."""


@dataclass(frozen=True)
class Image:
    """One image: its name, how its tag ends, its Dockerfile, and the variant that is built of it."""

    name: str
    dockerfile: str
    variant: str = "cpu"
    suffix: str = ""


IMAGES = {
    "airflow": Image("nightshift-airflow", "docker/airflow/Dockerfile"),
    "trainer": Image("nightshift-trainer", "docker/trainer/Dockerfile", suffix="-cpu"),
    "trainer-cuda": Image("nightshift-trainer", "docker/trainer/Dockerfile", variant="cuda", suffix="-cuda"),
    "vllm": Image("nightshift-vllm", "docker/vllm/Dockerfile", suffix="-cpu"),
    "vllm-cuda": Image("nightshift-vllm", "docker/vllm/Dockerfile", variant="cuda", suffix="-cuda"),
}


def main(arguments: list[str] | None = None) -> int:
    """Build what was named and return an exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=f"{', '.join(IMAGES)}; default: airflow trainer")
    parser.add_argument("--push", metavar="REGISTRY", help="push there, e.g. registry.example.com/team; prints digests")
    parser.add_argument("--engine", choices=ENGINES, help="default: the first that is there")
    parser.add_argument("--extra", default="", help="more packages for the airflow image, e.g. an auth manager")
    parser.add_argument("--pin", action="store_true", help="write the digests of the base images into the Dockerfiles")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run none")
    options = parser.parse_args(arguments)
    if unknown := set(options.images) - IMAGES.keys():
        parser.error(f"no such image: {', '.join(sorted(unknown))}; there are {', '.join(IMAGES)}")
    try:
        engine = options.engine or ("docker" if options.dry_run else find_engine())
        if options.pin:
            pin(engine)
        else:
            build(engine, options.images or ["airflow", "trainer"], options.push, options.extra, options.dry_run)
    except CannotBuild as problem:
        print(f"ERROR {problem}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"ERROR {error.cmd[0]} ended with {error.returncode}; its lines above say why", file=sys.stderr)
        return 1
    return 0


def build(engine: str, names: list[str], registry: str | None, extra: str, dry: bool) -> None:
    """Build images, and push them where a registry is named.

    :raises CannotBuild: something that no commit holds would be pushed.
    """
    commit = commit_of(ROOT)
    if registry and commit.endswith("-dirty") and not dry:
        raise CannotBuild("there are changes that no commit holds; an image is pushed from a commit only")
    for name in names:
        image = IMAGES[name]
        reference = f"{image.name}:{commit}{image.suffix}"
        if registry:
            reference = f"{registry.rstrip('/')}/{reference}"
        run(build_command(engine, image, reference, commit, extra), dry=dry)
        done = push(engine, reference, dry) if registry else reference
        if not dry:
            print(f"{'pushed' if registry else 'built'} {done}")


def find_engine() -> str:
    """Return the first container engine that works here.

    :raises CannotBuild: none is installed, or those that are do not answer.
    """
    installed = [engine for engine in ENGINES if shutil.which(engine)]
    for engine in installed:
        answer = subprocess.run([engine, "info"], capture_output=True, check=False)
        if answer.returncode == 0:
            return engine
    if installed:
        raise CannotBuild(
            f"{', '.join(installed)} is installed and does not answer; `{installed[0]} info` says why. "
            "Docker needs its daemon; podman and buildah need none."
        )
    raise CannotBuild(f"no container engine was found; install one of {', '.join(ENGINES)} (apt-get install podman)")


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


def build_command(engine: str, image: Image, reference: str, commit: str, extra: str = "") -> list[str]:
    """Return the command that builds one image."""
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    arguments = {
        "VARIANT": image.variant,
        "VERSION": version[1] if version else "unknown",
        "SOURCE": source_of(ROOT),
        "GIT_SHA": commit,
        **({"EXTRA": extra} if extra and image.name == "nightshift-airflow" else {}),
    }
    return [
        engine,
        "build",
        *(f"--build-arg={key}={value}" for key, value in arguments.items()),
        f"--file={image.dockerfile}",
        f"--tag={reference}",
        ".",
    ]


def push(engine: str, reference: str, dry: bool) -> str:
    """Push an image and return its name with the digest that the registry knows it by."""
    name = reference.rpartition(":")[0]
    if engine in ("podman", "buildah"):
        with tempfile.TemporaryDirectory() as folder:
            digest = Path(folder, "digest")
            run([engine, "push", f"--digestfile={digest}", reference], dry=dry)
            return f"{name}@{digest.read_text().strip()}" if not dry else reference
    run([engine, "push", reference], dry=dry)
    return digest_of(engine, reference) if not dry else reference


def digest_of(engine: str, reference: str) -> str:
    """Return name@sha256:… of an image that was pushed or pulled."""
    command = [engine, "image", "inspect", "--format", "{{index .RepoDigests 0}}", reference]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def pin(engine: str) -> None:
    """Write the digest that each base image's tag has now behind the tag, in the Dockerfiles."""
    if engine == "buildah":
        raise CannotBuild("--pin needs docker, podman or nerdctl: buildah does not tell the digest of what it pulled")
    for dockerfile in sorted({image.dockerfile for image in IMAGES.values()}):
        path = ROOT / dockerfile
        text = path.read_text()
        for line, tag in re.findall(r"^(ARG \w+_IMAGE=([^\s@]+).*)$", text, re.MULTILINE):
            run([engine, "pull", tag], dry=False)
            digest = digest_of(engine, tag).rpartition("@")[2]
            text = text.replace(line, f"{line.partition('=')[0]}={tag}@{digest}")
            print(f"{dockerfile}: {tag}@{digest}")
        path.write_text(text)


def run(command: list[str], *, dry: bool) -> None:
    """Run a command in sight of the user, or print it."""
    print(shlex.join(command), flush=True)
    if not dry:
        # Without BuildKit docker would build the stages of the other variant too.
        subprocess.run(command, cwd=ROOT, env={**os.environ, "DOCKER_BUILDKIT": "1"}, check=True)


if __name__ == "__main__":
    sys.exit(main())
