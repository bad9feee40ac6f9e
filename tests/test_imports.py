"""Imports point downward: no packages and no modules need each other in a circle, and what is light stays light."""

import ast
from collections import defaultdict
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "include" / "nightshift"
BELOW_ALL = {"errors", "verdict", "shown", "code_version"}
ON_AIRFLOW = {"orchestration", "dashboard", "metrics", "access", "stack", "alerts"}
BELOW_JOBS = ("training", "inference", "evaluation", "monitoring", "data", "registry", "storage", "settings")
HEAVY = {"torch", "transformers", "deepspeed", "mlflow", "evidently", "great_expectations", "pandas", "numpy", "duckdb"}


@cache
def nodes_of(file):
    """All nodes of a file's syntax tree, and those at its top."""
    tree = ast.parse(file.read_text())
    return list(ast.walk(tree)), tree.body


def imported(file, *, when="ever", members=False):
    """The names of the modules that a file imports, anywhere in it or (`when="loaded"`) at its top.

    `members`: also what it takes from them by name, which may be modules themselves.
    """
    for node in nodes_of(file)[0 if when == "ever" else 1]:
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names if members)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@cache
def uses():
    """Which packages each package imports."""
    found = defaultdict(set)
    for file in PACKAGE.rglob("*.py"):
        mine = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        own = (name.split(".")[1] for name in imported(file) if name.startswith("nightshift."))
        found[mine] |= {name for name in own if name != mine}
    return found


def test_no_two_packages_import_each_other_and_no_more_do_in_a_circle():
    assert {"evaluation", "inference"} <= set(
        TopologicalSorter(uses()).static_order()
    )  # raises at a circle, and names it


def test_no_modules_import_each_other_in_a_circle_not_even_lazily_or_for_types_alone():
    modules = {file: ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in PACKAGE.rglob("*.py")}
    known = set(modules.values())
    needs = {
        module: {name for name in imported(file, members=True) if name in known} for file, module in modules.items()
    }
    assert needs["nightshift.jobs.train"] >= {"nightshift.jobs.hosted", "nightshift.storage.manifest"}  # in functions
    assert len(list(TopologicalSorter(needs).static_order())) == len(known)  # raises at a circle, and names it


@pytest.mark.parametrize(
    ("package", "allowed"), [("settings", set()), ("storage", {"settings"}), ("registry", {"settings", "training"})]
)
def test_what_lies_below_knows_nothing_of_what_is_built_on_it(package, allowed):
    assert uses()[package] <= allowed | BELOW_ALL


def test_only_what_runs_in_airflow_imports_it():
    files = [file for file in PACKAGE.rglob("*.py") if any(name.split(".")[0] == "airflow" for name in imported(file))]
    assert {file.relative_to(PACKAGE).parts[0] for file in files} <= ON_AIRFLOW


def test_what_airflow_parses_and_runs_in_its_workers_loads_no_heavy_library():
    light = [PROJECT / "dags", PROJECT / "plugins", *(PACKAGE / name for name in ("orchestration", "settings"))]
    heavy = {
        (file.name, name)
        for folder in light
        for file in folder.rglob("*.py")
        for name in imported(file, when="loaded")
        if name.split(".")[0] in HEAVY
    }
    assert not heavy


def test_jobs_and_what_they_are_made_of_only_read_the_ledger_and_know_nothing_of_the_audit_log():
    """Light tasks of the worker write both; so the identity of jobs needs no right to."""
    reads = {
        "nightshift.ledger.store": {"Ledger"},
        "nightshift.ledger.releases": {"moved_by_hand"},
        "nightshift.ledger.splits": {"running", "step_of"},
        "nightshift.ledger.reviews": {"REVIEWS", "reviews_of"},
    }
    files = [file for name in ("jobs", *BELOW_JOBS) for file in (PACKAGE / name).rglob("*.py")]
    assert len(files) > 100
    found = {(file.name, one) for file in files for one in _of_the_ledger(file, reads)}
    assert not found


def _of_the_ledger(file, reads):
    """What a file imports of the ledger and the audit log beside records and what reads, and its writes to a ledger."""
    nodes, _ = nodes_of(file)
    knows = False
    for node in nodes:
        module = node.module if isinstance(node, ast.ImportFrom) and node.module else ""
        if module.startswith("nightshift.audit"):
            yield module
        if module.startswith("nightshift.ledger") and module != "nightshift.ledger.records":
            knows = True
            yield from (f"{module}.{name.name}" for name in node.names if name.name not in reads.get(module, ()))
    if knows:
        calls = (node.func for node in nodes if isinstance(node, ast.Call))
        yield from (
            call.attr for call in calls if isinstance(call, ast.Attribute) and call.attr in {"create", "replace"}
        )
