"""`nightshift roles sync` on FAB's tables: made once, repeated, killed, and after applications came and went."""

import json
import os
import shutil
import signal
import sqlite3

import pytest
from airflow.utils.session import create_session
from make_airflow import prepare_fab
from sqlalchemy import event, select
from two_airflows import RETURNS

from nightshift.access.permissions import mark, permissions, wanted_roles
from nightshift.access.sync import sync
from nightshift.errors import BadInput

pytestmark = pytest.mark.slow

APPLICATIONS = ["banking_assistant", "returns_helper"]


def roles():
    """What each role may do."""
    from airflow.providers.fab.auth_manager.models import Role

    with create_session() as now:
        found = now.scalars(select(Role)).unique()
        return {role.name: {(row.action.name, row.resource.name) for row in role.permissions} for role in found}


def give(role, pair):
    """Give a permission that exists to a role, which is made if it does not."""
    from airflow.providers.fab.auth_manager.models import Permission, Role

    with create_session() as now:
        found = now.scalar(select(Role).where(Role.name == role)) or Role(name=role, permissions=[])
        row = next(row for row in now.scalars(select(Permission)) if (row.action.name, row.resource.name) == pair)
        now.add(found)
        found.permissions.append(row)


def log_in(name, email):
    """Let FAB know a person; return the id."""
    from airflow.providers.fab.auth_manager.models import User

    with create_session() as now:
        user = User(username=name, first_name=name, last_name="", email=email, active=True)
        now.add(user)
        now.flush()
        return str(user.id)


def approvers():
    from airflow.models import Variable

    return json.loads(Variable.get("nightshift_users"))


def test_roles_follow_the_application_files_through_a_life(apps):
    before = roles()

    told = sync()

    wanted = wanted_roles(APPLICATIONS)
    assert f"returns_helper_operator: made, with {len(wanted['returns_helper_operator'])} permissions" in told
    assert "approver: FAB has no user with this name or e-mail address yet" in told
    assert roles() == {**before, **wanted}

    # A person gives too much, somebody makes a role of their own, approvers log in for the first time.
    give("banking_assistant_viewer", ("can_edit", "DAG:banking_assistant_release"))
    give("night_watch", ("can_read", "DAG:returns_helper_ingest"))
    ids = {"approver": log_in("approver", "a@bank.example"), "Other@bank.example": log_in("0f3c", "other@bank.example")}
    (apps / "returns_helper.yaml").write_text(RETURNS.replace("other_approver", "Other@bank.example"))
    assert sync() == [
        "banking_assistant_viewer: - can_edit on DAG:banking_assistant_release",
        "nightshift_users: holds 2 approvers: Other@bank.example, approver",
    ]
    assert approvers() == ids
    assert sync() == ["The roles already match the application files."]

    # An application is taken away: its roles may do nothing, and nobody else's role changes.
    (apps / "returns_helper.yaml").unlink()
    assert all(line.startswith(("returns_helper_", "nightshift_users: holds 1 ")) for line in sync())
    assert {name for name, may in roles().items() if name.startswith("returns_helper_") and may} == set()
    assert roles()["night_watch"] == {("can_read", "DAG:returns_helper_ingest")}

    # And comes back, after the next deployment gave every role the website.
    prepare_fab()
    assert roles()["returns_helper_viewer"] == {("can_read", "Website")}
    (apps / "returns_helper.yaml").write_text(RETURNS)
    sync()
    assert {name: roles()[name] for name in wanted} == wanted


@pytest.mark.parametrize("table", ["ab_role", "ab_permission_view_role", "variable"])
def test_killed_halfway_it_changed_nothing_and_does_all_of_it_the_next_time(apps, table):
    before = roles()

    assert killed_at(table) == signal.SIGKILL

    assert roles() == before
    sync()
    assert roles() == {**before, **wanted_roles(APPLICATIONS)}


def killed_at(table):
    """Sync in a process that is killed when it first writes to a table; return the signal that ended it."""
    from airflow import settings

    if child := os.fork():
        return os.waitpid(child, 0)[1]
    try:
        settings.engine.dispose(close=False)

        @event.listens_for(settings.engine, "before_cursor_execute")
        def kill(_connection, _cursor, statement, *_):
            if statement.startswith(f"INSERT INTO {table} "):
                os.kill(os.getpid(), signal.SIGKILL)

        sync()
    finally:
        os._exit(1)


def test_a_permission_that_airflow_makes_in_the_same_moment_costs_nothing_but_another_try(apps):
    from airflow import settings

    shutil.copy(apps / "returns_helper.yaml", apps / "third.yaml")
    began = []

    @event.listens_for(settings.engine, "before_cursor_execute")
    def another(_connection, _cursor, statement, *_):
        if statement.startswith("INSERT"):
            began.append(statement)
            if len(began) == 1:
                with sqlite3.connect(settings.engine.url.database) as airflow:
                    airflow.execute("INSERT INTO ab_view_menu (name) VALUES ('DAG:third_ingest')")

    try:
        sync()
    finally:
        event.remove(settings.engine, "before_cursor_execute", another)

    assert began
    assert roles()["third_viewer"] == permissions("third", "viewer")


def test_what_airflow_does_to_roles_by_itself_takes_nothing_from_ours(apps):
    sync()

    prepare_fab()

    assert mark("banking_assistant_viewer") in roles()["Admin"]
    assert [line for line in sync() if "FAB has no user with this name" not in line] == []


def test_an_application_that_cannot_be_read_keeps_its_roles(apps):
    sync()
    (apps / "returns_helper.yaml").write_text("schedule: [")

    with pytest.raises(BadInput, match=r"returns_helper\.yaml"):
        sync()

    assert roles()["returns_helper_viewer"] == permissions("returns_helper", "viewer")


def test_an_empty_folder_of_applications_empties_no_role(apps):
    sync()
    for file in apps.iterdir():
        file.unlink()

    with pytest.raises(BadInput, match="there is no application file in"):
        sync()

    assert roles()["returns_helper_viewer"] == permissions("returns_helper", "viewer")
