"""`nightshift roles` from a shell, without any database."""

import ast
import re

import pytest
from two_airflows import two_applications

from nightshift.access.permissions import HOUSEKEEPING, ROLES
from nightshift.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    two_applications(tmp_path / "apps")
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
    return tmp_path / "apps"


def test_show_tells_who_may_do_what_and_who_approves(folder, capsys):
    assert main(["roles", "show"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [*(f"<application>_{role}" for role in ROLES), HOUSEKEEPING]
    (release,) = [line for line in lines if line.startswith("DAG:<application>_release ")]
    cells = ["DAG:<application>_release", "can_read", "can_edit, can_read", "can_edit, can_read", "-"]
    assert re.split(r" {2,}", release) == cells
    assert "returns_helper: returns_helper_viewer, returns_helper_operator, returns_helper_approver" in lines
    assert "  approvers: other_approver" in lines


def test_the_mapping_is_python_with_a_group_for_every_role(folder, capsys):
    assert main(["roles", "mapping"]) == 0

    (statement,) = ast.parse(capsys.readouterr().out).body
    assert ast.unparse(statement.targets[0]) == "AUTH_ROLES_MAPPING"
    groups = ast.literal_eval(statement.value)
    assert groups["nightshift-admin"] == ["Admin"]
    assert groups["nightshift-returns_helper-approver"] == ["returns_helper_approver"]
    assert len(groups) == 1 + 2 * 3


def test_the_simple_auth_manager_has_nothing_to_sync(folder, capsys, monkeypatch):
    simple = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
    monkeypatch.setenv("AIRFLOW__CORE__AUTH_MANAGER", simple)

    assert main(["roles", "sync"]) == 0

    assert "four fixed roles" in capsys.readouterr().out


def test_an_auth_manager_that_nightshift_makes_no_roles_for_is_told(folder, capsys, monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW__CORE__AUTH_MANAGER", "airflow.api_fastapi.auth.managers.base_auth_manager.BaseAuthManager"
    )

    assert main(["roles", "sync"]) == 69

    assert "auth manager is BaseAuthManager: roles are generated for FAB" in capsys.readouterr().err
