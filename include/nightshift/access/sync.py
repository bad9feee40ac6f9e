"""`nightshift roles sync`: brings the roles in FAB's database to the state in the application files."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from nightshift.access.changes import changes
from nightshift.access.permissions import Permission, wanted_roles
from nightshift.access.users import USERS_VARIABLE, Person, approver_ids
from nightshift.errors import BadEnvironment
from nightshift.settings.application import Application
from nightshift.settings.applications import every_application

SIMPLE = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
TRIES = 3


def sync() -> list[str]:
    """Change FAB's roles and the variable `nightshift_users`, and tell every change, one a line.

    All of it happens or nothing. Roles that Nightshift did not make stay as they are.

    :raises BadInput: an application file is wrong, there is none, or somebody else's role has a name that is needed.
    :raises BadEnvironment: this Airflow has neither FAB nor the simple auth manager.
    """
    manager = auth_manager_class()
    if f"{manager.__module__}.{manager.__qualname__}" == SIMPLE:
        return [
            "This Airflow has the simple auth manager, with four fixed roles and no rules per DAG: there is nothing to sync."
        ]
    applications = every_application()  # one that cannot be read would lose its roles, so it stops everything
    for _ in range(TRIES):
        try:
            return _in_one_transaction(applications)
        except IntegrityError as error:
            # Airflow's DAG processor, or another sync, made the same permission at the same time.
            trouble = error
    raise BadEnvironment(f"another process keeps changing FAB's permissions; nothing was changed: {trouble}")


def _in_one_transaction(applications: list[Application]) -> list[str]:
    from airflow.models import Variable
    from airflow.providers.fab.auth_manager.models import Role, User
    from airflow.utils.session import create_session

    with create_session() as session:
        roles = {role.name: role for role in session.scalars(select(Role)).unique()}
        existing = {name: {_pair(permission) for permission in role.permissions} for name, role in roles.items()}
        told = []
        rows = _Rows(session)
        for change in changes(wanted_roles(app.name for app in applications), existing):
            if change.is_new:
                roles[change.role] = Role(name=change.role, permissions=[])
                session.add(roles[change.role])
            kept = [row for row in roles[change.role].permissions if _pair(row) not in change.removed]
            roles[change.role].permissions = kept + [rows.permission(pair) for pair in sorted(change.added)]
            told += change.lines()
        people = [Person(user.id, user.username, user.email or "") for user in session.scalars(select(User)).unique()]
        ids, unknown = approver_ids(applications, people)
        variable = session.scalar(select(Variable).where(Variable.key == USERS_VARIABLE))
        if variable is None or json.loads(variable.get_val() or "{}") != ids:
            Variable.set(USERS_VARIABLE, json.dumps(ids, indent=1), session=session)
            told.append(f"{USERS_VARIABLE}: holds {len(ids)} approvers: {', '.join(sorted(ids)) or 'nobody'}")
    told += [f"{name}: FAB has no user with this name or e-mail address yet" for name in unknown]
    return told or ["The roles already match the application files."]


class _Rows:
    """FAB's rows of actions, resources and their pairs; what is not there yet is made."""

    def __init__(self, session: Session) -> None:
        from airflow.providers.fab.auth_manager.models import Action, Permission, Resource

        self._session = session
        self._kinds: tuple[Any, Any, Any] = (Action, Resource, Permission)
        self._actions = {row.name: row for row in session.scalars(select(Action))}
        self._resources = {row.name: row for row in session.scalars(select(Resource))}
        self._pairs = {_pair(row): row for row in session.scalars(select(Permission)) if row.action and row.resource}

    def permission(self, pair: Permission) -> Any:
        action, resource, permission = self._kinds
        if pair not in self._pairs:
            for rows, kind, name in ((self._actions, action, pair[0]), (self._resources, resource, pair[1])):
                if name not in rows:
                    rows[name] = kind(name=name)
            self._pairs[pair] = permission(action=self._actions[pair[0]], resource=self._resources[pair[1]])
            self._session.add(self._pairs[pair])
        return self._pairs[pair]


def _pair(row: Any) -> Permission:
    return row.action.name, row.resource.name


def auth_manager_class() -> type:
    """Return the class of this Airflow's auth manager.

    :raises BadEnvironment: it is neither FAB nor the simple one.
    """
    from airflow.api_fastapi.app import get_auth_manager_cls

    manager: type = get_auth_manager_cls()
    known = {f"{base.__module__}.{base.__qualname__}" for base in manager.__mro__}
    fab = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
    if not known & {SIMPLE, fab}:
        raise BadEnvironment(
            f"this Airflow's auth manager is {manager.__qualname__}: roles are generated for FAB "
            "([core] auth_manager = airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager)"
        )
    return manager
