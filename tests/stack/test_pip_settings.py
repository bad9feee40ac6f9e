"""Whoever has told pip about a mirror, a certificate or a folder of wheels need not tell uv again."""

import os
import subprocess
import sys
from pathlib import Path

from pip_settings import pip_settings, uv_environment


def listing_of(tmp_path: Path, configuration: str, **environment: str) -> str:
    """What the real pip says about a configuration file and variables."""
    file = tmp_path / "pip.conf"
    file.write_text(configuration)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    command = [sys.executable, "-m", "pip", "config", "list"]
    run = subprocess.run(
        command, env={**kept, "PIP_CONFIG_FILE": str(file), **environment}, capture_output=True, text=True, check=True
    )
    return run.stdout


def test_a_mirror_a_certificate_and_folders_of_wheels_reach_uv(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    listing = listing_of(
        tmp_path,
        "[global]\nindex-url = https://mirror.example/simple\nextra-index-url =\n  https://one.example/simple\n"
        f"  https://two.example/simple\n[install]\nfind-links = {wheels}\n",
        PIP_PROXY="http://proxy.example:3128",
    )

    chosen = uv_environment(pip_settings(listing), {})

    assert chosen["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert chosen["UV_INDEX"] == "https://one.example/simple https://two.example/simple"
    assert chosen["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert chosen["UV_FIND_LINKS"] == str(wheels)
    assert chosen["ALL_PROXY"] == "http://proxy.example:3128"


def test_a_variable_wins_over_the_file_as_it_does_in_pip(tmp_path: Path) -> None:
    listing = listing_of(
        tmp_path, "[global]\nindex-url = https://file.example/simple\n", PIP_INDEX_URL="https://variable.example/simple"
    )

    assert uv_environment(pip_settings(listing), {})["UV_DEFAULT_INDEX"] == "https://variable.example/simple"


def test_what_uv_was_told_itself_is_left_alone() -> None:
    settings = {"index-url": ["https://pip.example/simple"], "find-links": ["https://pip.example/wheels"]}

    chosen = uv_environment(settings, {"UV_DEFAULT_INDEX": "https://uv.example/simple"})

    assert chosen == {"UV_FIND_LINKS": "https://pip.example/wheels"}


def test_folders_that_do_not_exist_are_passed_over(tmp_path: Path) -> None:
    settings = {
        "extra-index-url": [f"file://{tmp_path}/gone", f"file://{tmp_path}"],
        "find-links": [str(tmp_path / "gone")],
        "constraint": [str(tmp_path / "gone.txt")],
    }

    chosen = uv_environment(settings, {})

    assert chosen["UV_INDEX"] == f"file://{tmp_path}"
    assert "UV_FIND_LINKS" not in chosen
    assert "UV_CONSTRAINT" not in chosen
