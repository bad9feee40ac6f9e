"""Roles give what their application needs and nothing of another, and the generator knows every DAG that there is."""

from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

from nightshift.access.permissions import (
    ASKING_DAGS,
    DAGS,
    ROLES,
    housekeeping,
    permissions,
    role_name,
    wanted_roles,
)
from nightshift.errors import BadInput
from nightshift.settings.applications import application_names

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bag():
    return DagBag(ROOT / "dags")


def test_the_roles_cover_exactly_the_dags_that_an_application_has(bag):
    of_applications = {dag_id for dag_id in bag.dags if not dag_id.startswith("nightshift_")}
    assert {f"{app}_{dag}" for app in application_names() for dag in DAGS} == of_applications


def test_approvers_may_answer_wherever_a_run_asks(bag):
    from airflow.providers.standard.operators.hitl import HITLOperator

    asking = {
        dag_id
        for dag_id, dag in bag.dags.items()
        if any(issubclass(getattr(task, "operator_class", type(task)), HITLOperator) for task in dag.tasks)
    }
    assert asking <= {f"{app}_{dag}" for app in application_names() for dag in ASKING_DAGS}


@pytest.mark.parametrize("role", ROLES)
def test_no_role_of_an_application_names_another_or_all_of_them(role):
    of_a, of_b = permissions("helpdesk", role), permissions("returns", role)
    of_dags = {resource for _, resource in of_a if resource.startswith(("DAG:", "DAG Run:"))}

    assert of_dags
    assert all(resource.split(":")[1].startswith("helpdesk_") for resource in of_dags)
    assert not {pair for pair in of_a if pair[1] == "DAGs" and pair[0] != "menu_access"}
    assert not {pair for pair in of_a & of_b if pair[1].startswith(("DAG:", "DAG Run:", "Nightshift:"))}


def test_each_role_sees_what_a_viewer_sees_the_operator_runs_the_approver_answers_and_both_take_a_release_back():
    viewer, operator, approver = (
        {pair for pair in permissions("helpdesk", role) if not pair[1].startswith("Nightshift:")} for role in ROLES
    )

    assert viewer < operator
    assert viewer < approver
    assert {action for action, resource in viewer if resource != "My Password"} == {"can_read", "menu_access"}
    assert ("can_create", "DAG Run:helpdesk_finetune") in operator - approver
    assert ("can_edit", "HITL Detail") in approver - operator
    rollback = {("can_edit", "DAG:helpdesk_rollback"), ("can_create", "DAG Run:helpdesk_rollback")}
    assert rollback < operator
    assert approver - viewer == {("can_edit", "HITL Detail"), ("can_edit", "DAG:helpdesk_release"), *rollback}
    assert not any(action == "can_delete" for action, _ in operator | approver)


def test_what_shows_other_applications_is_given_to_no_role_of_an_application():
    shared = {"Assets", "Audit Logs", "ImportError", "Connections", "Variables", "Configurations", "Pools", "Jobs"}
    for role in ROLES:
        assert not shared & {resource for _, resource in permissions("helpdesk", role)}


def test_housekeeping_only_looks():
    assert {action for action, _ in housekeeping()} == {"can_read"}


def test_a_name_that_fab_would_cut_off_is_refused():
    assert role_name("a" * 55, "operator")
    with pytest.raises(BadInput, match="65 characters, and FAB keeps 64"):
        wanted_roles(["a" * 56])
