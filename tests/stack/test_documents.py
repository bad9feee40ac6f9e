"""The documents: every link leads somewhere, every page is in the index, and every command of ours is one and runs."""

import base64
import os
import re
import shlex
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

from nightshift.cli import _parser, main
from nightshift.errors import ExitCode
from nightshift.stack.place import CHECKOUT

DOCUMENTS = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md")])
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@each_document
def test_every_link_leads_to_a_file_and_a_heading_that_exist(document):
    broken = []
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", document.read_text()):
        path, _, anchor = target.partition("#")
        there = (document.parent / unquote(path)).resolve() if path else document
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


def test_every_page_is_in_the_index_once():
    index = CHECKOUT / "docs" / "README.md"
    named = re.findall(r"^- \[[^]]*\]\(([\w-]+\.md)\)", index.read_text(), re.MULTILINE)
    assert sorted(named) == sorted(page.name for page in CHECKOUT.glob("docs/*.md") if page != index)


def commands(document: Path) -> list[str]:
    """The lines of a page's code blocks that call `nightshift`, without what a shell does around it."""
    text = document.read_text()
    indented = re.findall(r"^ {4}(\S.*(?:\\\n.*)*)", text, re.MULTILINE)
    fenced = [line for block in re.findall(r"```(?:sh|bash)\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    found = []
    for line in [*indented, *fenced]:
        for part in re.split(r"\s*(?:&&|\||>|;)\s*", line.replace("\\\n", " ").split(" # ")[0].split("  #")[0]):
            if called := re.match(r"(?:\w+=\S+ )*(?:\.venv/bin/)?nightshift (.+)", part.strip()):
                found.append(called[1])
    return found


@each_document
def test_every_command_of_ours_in_a_code_block_is_one_that_the_command_line_takes(document):
    for command in commands(document):
        _parser().parse_args(shlex.split(command.replace("…", "x")))


def test_the_check_of_commands_finds_them_and_refuses_what_is_none():
    assert "audit verify" in commands(CHECKOUT / "docs" / "audit.md")
    with pytest.raises(SystemExit):
        _parser().parse_args(["audit", "verity"])


# What needs Airflow, MLflow, a cluster or a job's own files is run by tests that have them.
RUN_BY = {
    "up": "tests/stack/test_start_stop.py",
    "down": "tests/stack/test_start_stop.py",
    "alerts test": "tests/alerts/test_samples.py",
    "compute render": "tests/test_new_project.py",
    "erase": "tests/erasure/test_erase.py",
    "prompts diff": "tests/prompts/test_diff.py",
    "prompts show": "tests/prompts/test_diff.py",
    "roles sync": "tests/access/test_command.py",
    "roles token": "tests/access/test_token.py",
    "train --spec": "tests/jobs/test_contract.py",
}


@pytest.mark.slow
def test_every_command_of_the_pages_that_needs_no_server_runs_as_it_is_written(tmp_path, monkeypatch):
    key = base64.b64encode(os.urandom(32)).decode()
    for name, value in {"HOME": tmp_path, "NIGHTSHIFT_HOME": tmp_path / "none", "NIGHTSHIFT_AUDIT_KEY": key}.items():
        monkeypatch.setenv(name, str(value))
    for name in ("NIGHTSHIFT_STORAGE", "MLFLOW_TRACKING_URI", "AIRFLOW_CONN_NIGHTSHIFT_AIRFLOW"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    every = {command for document in DOCUMENTS for command in commands(document)}
    here = {command for command in every if not command.startswith(tuple(RUN_BY))}
    ended = {command: main(shlex.split(command)) for command in sorted(here)}

    # Nothing outside of storage witnessed a log that is not there yet.
    assert ended.pop("audit verify") == ExitCode.BAD_ENVIRONMENT
    assert set(ended.values()) == {ExitCode.OK}, ended
    assert all((CHECKOUT / test).exists() for test in RUN_BY.values())
    assert {"apps check", "audit public-key", "init returns --application returns_helper", "roles show"} <= set(ended)


def test_make_alone_lists_what_there_is():
    told = subprocess.run(["make"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    assert re.search(r"make run +start everything", told)
