"""The settings of docs/roles.md, as FAB reads them: groups of an identity provider become roles, and nothing else does."""

import re

import pytest
from matrix import DOC

from nightshift.access.shown import mapping
from nightshift.access.sync import sync
from nightshift.settings.applications import read_application

pytestmark = pytest.mark.slow


def test_a_person_has_the_roles_of_their_groups_as_of_the_last_login(apps, tmp_path, monkeypatch):
    sync()
    for name, value in {"ID": "nightshift", "SECRET": "secret"}.items():
        monkeypatch.setenv(f"OIDC_CLIENT_{name}", value)
    monkeypatch.setenv("OIDC_ISSUER", "https://login.example.com/realms/bank")
    (documented,) = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    groups = mapping([read_application(file) for file in sorted(apps.iterdir())])
    settings = tmp_path / "webserver_config.py"
    # FAB asks for authlib, to speak to the provider, when it reads OAUTH; what follows the answer is the same without.
    settings.write_text(f"{documented}\n{groups}\nfrom flask_appbuilder.const import AUTH_DB\nAUTH_TYPE = AUTH_DB\n")
    monkeypatch.setenv("AIRFLOW__FAB__CONFIG_FILE", str(settings))
    logins = [
        [],
        ["nightshift-banking_assistant-operator", "nightshift-returns_helper-approver", "everybody"],
        ["nightshift-returns_helper-viewer"],
        ["nightshift-admin"],
        ["banking_assistant_operator", "Admin", "nightshift-banking_assistant"],
    ]

    assert list(roles_after(logins)) == [
        {"Public"},
        {"Public", "banking_assistant_operator", "returns_helper_approver"},
        {"Public", "returns_helper_viewer"},
        {"Public", "Admin"},
        {"Public"},
    ]


def roles_after(logins):
    """Log somebody in several times, as FAB does when the provider has told it who that is, and of which groups."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    who = {"username": "ann", "email": "ann@bank.example", "first_name": "Ann", "last_name": "A"}
    with get_application_builder() as builder:
        for groups in logins:
            user = builder.sm.auth_user_oauth({**who, "role_keys": groups}, rotate_session_id=False)
            yield {role.name for role in user.roles}
