"""The documents: every link leads somewhere, every page is in the index, and every command of ours is one."""

import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest

from nightshift.cli import _parser
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
