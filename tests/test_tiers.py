"""Every test belongs to a tier, and none is lost where files are left out of a tier unread."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression
from run_tests import TIERS

ROOT = Path(__file__).parent.parent
LIST = """\
def pytest_collection_modifyitems(config, items):
    for item in items:
        print("found", item.path, *sorted(mark.name for mark in item.iter_markers()))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The file and the marks of every test that there is."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "list_marks.py").write_text(LIST)
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-s", "-p", "list_marks"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    tests = [line.split()[1:] for line in listed.stdout.splitlines() if line.startswith("found ")]
    return [(Path(path), set(marks)) for path, *marks in tests]


@pytest.mark.nightly
@pytest.mark.parametrize("tier", TIERS)
def test_no_file_that_has_a_test_of_a_tier_is_left_out_of_it(found, tier, request):
    left_out = request.config.pluginmanager.get_plugin(str(ROOT / "tests" / "conftest.py")).is_left_out
    selected = Expression.compile(TIERS[tier].marks)
    files = {path for path, marks in found if selected.evaluate(lambda name, marks=marks, **_: name in marks)}
    assert files
    assert [path for path in files if left_out(path, TIERS[tier].marks)] == []


@pytest.mark.nightly
def test_every_test_is_of_exactly_one_tier(found):
    tiers = [Expression.compile(tier.marks) for tier in TIERS.values()]
    for path, marks in found:
        of = [tier for tier in tiers if tier.evaluate(lambda name, marks=marks, **_: name in marks)]
        assert len(of) == 1, (path, marks)
