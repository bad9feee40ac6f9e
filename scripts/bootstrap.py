"""Make the Python environment in `.venv` from the lock, with nothing but Python 3.11 on the machine.

Run by `make`; a second call finds everything in place and returns at once. Standard library only.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from pip_settings import pip_settings, uv_environment

ROOT = Path(__file__).resolve().parent.parent
PYTHON = (3, 11)
UV = "uv==0.13.9"
FREE_GB = 8.0  # the environment takes 2.5 GB, the downloads as much again, the base model and the sample the rest
RUNTIME_LOCK = "requirements.lock"
DEVELOPMENT_LOCK = "requirements-dev.lock"
HASHES = "requirements.hashes"
CUDA_GB = 3
QUICK_SECONDS = 25  # how long PyTorch's own index may take to answer before it is passed over

NO_NETWORK = re.compile(
    r"error sending request|dns error|failed to lookup|could not connect|connection refused|network is unreachable"
    r"|timed out|NewConnectionError|ConnectTimeout|from versions: none|tunnel error",
    re.IGNORECASE,
)


class CannotInstall(Exception):
    """Something about this machine; the text says what it is and what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Bring `.venv` up to date and return an exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dev", action="store_true", help="also what the tests and checks need")
    parser.add_argument("--torch", choices=["auto", "cpu", "cuda"], default="auto", help="which build of torch")
    options = parser.parse_args(arguments)
    try:
        check_python(sys.version_info[:3], sys.executable)
        with Path(__file__).open() as alone:
            fcntl.flock(alone, fcntl.LOCK_EX)
            Environment(ROOT).bring_up_to_date(DEVELOPMENT_LOCK if options.dev else RUNTIME_LOCK, options.torch)
    except CannotInstall as problem:
        print(f"\nERROR {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The next `make` starts the installation over; what was downloaded is kept.", file=sys.stderr)
        return 130
    return 0


def check_python(version: tuple[int, ...], executable: str) -> None:
    """Refuse a Python that the lock was not made for.

    :raises CannotInstall: with the ways to get the right one.
    """
    if version[:2] != PYTHON:
        raise CannotInstall(
            f"Nightshift needs Python 3.11; {executable} is {'.'.join(map(str, version))}.\n"
            "  Debian 12, Ubuntu 22.04:  apt-get install python3.11 python3.11-venv\n"
            "  elsewhere:                `uv python install 3.11`, or pyenv, or conda\n"
            "  then, if it is not found by itself:  make run PYTHON=/path/to/python3.11"
        )


def check_disk(folder: Path, free_gb: float = FREE_GB) -> None:
    """Refuse a disk that the environment would fill.

    :raises CannotInstall: less than `free_gb` GB are free.
    """
    free = shutil.disk_usage(folder).free / 1e9
    if free < free_gb:
        raise CannotInstall(
            f"{free:.1f} GB are free on the disk of {folder}; the installation needs {free_gb:g} GB. "
            "Free some space, or clone into a larger disk."
        )


def check_writable(folder: Path) -> None:
    """Refuse a folder where nothing can be written.

    :raises CannotInstall: the folder is read-only for this user.
    """
    probe = folder / f".writable-{os.getpid()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CannotInstall(
            f"{folder} cannot be written ({error.strerror}); the environment and the data live there. "
            "Clone the repository into a folder of your own."
        ) from error


class Environment:
    """The virtual environment of one checkout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".venv"
        self.python = self.folder / "bin" / "python"
        self.uv = self.folder / "bin" / "uv"
        self.stamp = self.folder / "nightshift-installed.json"
        # Present from the first file of an installation to its last: what it marks may be half of something.
        self.unfinished = self.folder / "nightshift-unfinished"

    def bring_up_to_date(self, lock: str, torch: str) -> None:
        """Install `lock` unless exactly this was done before.

        :raises CannotInstall: what is missing on this machine, and what to do.
        """
        if self.is_installed(lock):
            return
        started = time.monotonic()
        check_writable(self.root)
        check_disk(self.root)
        if self._stamped() and not self.is_installed(RUNTIME_LOCK):
            self._stop_stack()
        self._make_folder()
        self._install_uv()
        self._install(lock, torch)
        self._say("the package `nightshift` itself")
        self._uv("install", "--no-deps", "--editable", str(self.root))
        self.stamp.write_text(json.dumps({**self._stamped(), **self.wanted(lock)}, indent=1))
        self.unfinished.unlink()
        self._say(f"ready in {time.monotonic() - started:.0f} s")

    def _stop_stack(self) -> None:
        """Stop what runs from this environment, before packages change below it; `nightshift up` starts it again."""
        command = self.folder / "bin" / "nightshift"
        for arguments in (
            (["down"], ["down", "--sample", "full"], ["down", "--sample", "documents"]) if command.exists() else ()
        ):
            run = subprocess.run([str(command), *arguments], capture_output=True, text=True, check=False)
            if "stopped" in run.stdout:
                self._say(f"the packages change: {run.stdout.strip()}")

    def wanted(self, lock: str) -> dict[str, str]:
        """Return what the stamp says when `lock` is installed. The development lock holds the runtime lock whole."""
        digests = {
            name: hashlib.sha256((self.root / name).read_bytes()).hexdigest()
            for name in {RUNTIME_LOCK, lock, HASHES, "pyproject.toml"}
        }
        return {"python": platform.python_version(), "folder": str(self.folder), **digests}

    def is_installed(self, lock: str) -> bool:
        """Whether `lock` was installed here, to the end."""
        return (
            self.python.exists()
            and not self.unfinished.exists()
            and self.wanted(lock).items() <= self._stamped().items()
        )

    def _stamped(self) -> dict[str, str]:
        try:
            return dict(json.loads(self.stamp.read_text()))
        except (OSError, ValueError):
            return {}

    def _make_folder(self) -> None:
        usable = not self.unfinished.exists() and self._works("-m", "pip", "--version") and self._is_right_python()
        if not usable:
            try:
                import ensurepip  # noqa: F401
                import venv
            except ImportError:
                raise CannotInstall(
                    "this Python cannot make virtual environments (Debian and Ubuntu ship that separately).\n"
                    "  apt-get install python3.11-venv"
                ) from None
            self._say(
                "a new virtual environment in .venv" + (" (the old one was unfinished)" if self.folder.exists() else "")
            )
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
            self.unfinished.touch()
            venv.create(self.folder, with_pip=True, symlinks=True)
        self.unfinished.touch()

    def _is_right_python(self) -> bool:
        return self._works("-c", f"import sys; assert sys.version_info[:3] == {tuple(sys.version_info[:3])}")

    def _works(self, *arguments: str) -> bool:
        if not self.python.exists():
            return False
        return subprocess.run([str(self.python), *arguments], capture_output=True, check=False).returncode == 0

    def _install_uv(self) -> None:
        if self.uv.exists() and self._works("-m", "pip", "show", "-q", UV.partition("==")[0]):
            version = subprocess.run(
                [str(self.uv), "--version"], capture_output=True, text=True, check=False
            ).stdout.split()
            if version[1:2] == [UV.partition("==")[2]]:
                return
        self._say(f"the installer ({UV})")
        environment = {"PIP_DEFAULT_TIMEOUT": "15", "PIP_RETRIES": "2", **os.environ}
        command = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if run.returncode:
            raise self._failure("pip could not install uv", run.stdout + run.stderr)

    def _install(self, lock: str, torch: str) -> None:
        """Look first what would be downloaded, then do it."""
        self._say(f"looking up the packages of {lock}")
        backend = ["--torch-backend=cpu"] if torch == "cpu" else []
        # uv refuses a file of another hash, whichever index has it. The option would hide this machine's own constraints.
        constraints = [str(self.root / HASHES), *self._environment().get("UV_CONSTRAINT", "").split()]
        requirements = ["--requirements", str(self.root / lock)]
        requirements += [word for path in constraints for word in ("--constraints", path)]
        plan = self._uv("install", "--dry-run", *backend, *requirements)
        if torch == "auto" and re.search(r"^ *\+ nvidia-", plan, re.MULTILINE) and not has_nvidia_gpu():
            backend = self._cpu_backend(requirements)
        count = len(re.findall(r"^ *\+ ", plan, re.MULTILINE))
        self._say(f"installing {count} packages")
        # Every job is a process of its own, and would compile what it imports anew where Python may not keep bytecode.
        if self._stream("install", "--compile-bytecode", *backend, *requirements):
            raise CannotInstall(
                "the installation stopped (the lines above say why). `make` again goes on: what was downloaded is kept."
            )

    def _stream(self, verb: str, *arguments: str) -> int:
        """Run `uv pip VERB` in sight of the user: its progress bars in a terminal, elsewhere its few lines of news."""
        command = [str(self.uv), "pip", verb, "--python", str(self.python), *arguments]
        if sys.stderr.isatty():
            return subprocess.run(command, env=self._environment(), check=False).returncode
        with subprocess.Popen(command, env=self._environment(), stderr=subprocess.PIPE, text=True) as process:
            for line in process.stderr or ():
                if not line.startswith((" + ", " - ", " ~ ")):
                    print("  " + line, end="", file=sys.stderr, flush=True)
        return process.returncode

    def _cpu_backend(self, requirements: list[str]) -> list[str]:
        """PyTorch's own index of CPU builds, if it answers quickly."""
        self._say(
            f"this machine shows no NVIDIA GPU, and the package index has torch for CUDA (about {CUDA_GB} GB more)"
        )
        backend = ["--torch-backend=cpu"]
        environment = {**self._environment(), "UV_HTTP_TIMEOUT": "5", "UV_HTTP_RETRIES": "0"}
        command = [str(self.uv), "pip", "install", "--python", str(self.python), "--dry-run", *backend, *requirements]
        try:
            run = subprocess.run(command, env=environment, capture_output=True, timeout=QUICK_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            answers = False
        else:
            answers = run.returncode == 0
        if answers:
            self._say("taking the CPU build from PyTorch's own index (`make TORCH=cuda` takes the other)")
            return backend
        self._say(
            "PyTorch's own index does not answer, so the CUDA build is downloaded. To avoid it, stop with Ctrl-C and "
            "point pip at a CPU build (PIP_FIND_LINKS=folder-or-page), then `make` again"
        )
        return []

    def _uv(self, verb: str, *arguments: str) -> str:
        """Run `uv pip VERB` and return what it printed."""
        run = subprocess.run(
            [str(self.uv), "pip", verb, "--python", str(self.python), *arguments],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise self._failure(f"uv pip {verb} failed", run.stderr)
        return run.stdout + run.stderr

    def uv_variables(self) -> dict[str, str]:
        """Return the variables that make uv follow this machine's pip settings."""
        command = [str(self.python), "-m", "pip", "config", "list"]
        listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return uv_environment(pip_settings(listing), dict(os.environ))

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "UV_PYTHON_DOWNLOADS": "never",
            "VIRTUAL_ENV": str(self.folder),
            **self.uv_variables(),
        }

    @staticmethod
    def _failure(what: str, output: str) -> CannotInstall:
        tail = "\n".join("  " + line for line in output.strip().splitlines()[-12:])
        if NO_NETWORK.search(output):
            return CannotInstall(
                f"the package index cannot be reached.\n{tail}\n"
                "Is this machine online? Behind a proxy or a mirror, tell pip about it and Nightshift follows: "
                "HTTPS_PROXY, or `pip config set global.index-url …`."
            )
        return CannotInstall(f"{what}:\n{tail}")

    @staticmethod
    def _say(text: str) -> None:
        print(f"[environment] {text}", flush=True)


def has_nvidia_gpu() -> bool:
    """Whether the NVIDIA driver is loaded here."""
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()


if __name__ == "__main__":
    sys.exit(main())
