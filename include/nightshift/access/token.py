"""`nightshift roles token`: a token for the connection `nightshift_airflow` if people log in at an identity provider."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from nightshift.access.permissions import HOUSEKEEPING
from nightshift.access.sync import SIMPLE, auth_manager_class
from nightshift.errors import BadEnvironment, BadInput


def housekeeping_token(username: str, valid: timedelta) -> str:
    """Return a token by which Airflow's REST API takes its bearer for a user of FAB.

    It holds until it expires, the user is deactivated, or `[api_auth] jwt_secret` changes.

    :raises BadInput: there is no such user, or it may do more than look after the DAGs.
    :raises BadEnvironment: this Airflow has no FAB, or no `jwt_secret` that its API servers share.
    """
    manager = auth_manager_class()
    if f"{manager.__module__}.{manager.__qualname__}" == SIMPLE:
        raise BadEnvironment("this Airflow has the simple auth manager: give the connection the password of a user")
    from airflow.configuration import conf
    from airflow.providers.fab.auth_manager.models import User
    from airflow.utils.session import create_session

    if not conf.get("api_auth", "jwt_secret", fallback=""):
        raise BadEnvironment("[api_auth] jwt_secret is not set, so no API server would accept a token made here")
    with create_session() as session:
        user = session.scalars(select(User).where(User.username == username)).unique().one_or_none()
        if user is None:
            raise BadInput(f"FAB has no user {username!r}: make one with the role {HOUSEKEEPING}")
        # A token lies in a Secret for months: it must not be one by which somebody could act.
        if {role.name for role in user.roles} != {HOUSEKEEPING}:
            raise BadInput(f"the user {username!r} must have the role {HOUSEKEEPING} and no other")
        token: str = manager().generate_jwt(user, expiration_time_in_seconds=int(valid.total_seconds()))
        return token
