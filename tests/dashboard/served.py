"""What the plugin mounts, as Airflow serves it: with an auth manager, users, and a database with Airflow's own tables."""

import pytest
from stored_application import StoredApplication

APP = """\
description: {description}
owner: team-{name}
schedule: null
sources:
  - uri: /data/{{start:%Y-%m-%d}}.jsonl
    columns: {{prompt: question, answer: reply}}
"""


@pytest.fixture(scope="session")
def airflow():
    """The web application below `/nightshift`, and a function that makes the token of a user."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AIRFLOW__CORE__AUTH_MANAGER", "one_application.OneApplicationAuthManager")
        environment.setenv(
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "viewer:viewer,admin:admin,newcomer:viewer,ann:user,ben:user"
        )
        environment.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "secret-of-the-tests" * 4)
        from airflow import settings
        from airflow.api_fastapi.app import create_auth_manager, get_auth_manager, purge_cached_app
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
        from airflow.models import import_all_models
        from airflow.models.base import Base
        from fastapi import FastAPI

        from nightshift.metrics.app import app

        import_all_models()
        Base.metadata.create_all(settings.engine)
        purge_cached_app()
        create_auth_manager().init()
        outer = FastAPI()
        outer.mount("/nightshift", app)

        def token(user):
            role = {"admin": "admin", "ann": "user", "ben": "user"}.get(user, "viewer")
            return get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=user, role=role))

        yield outer, token
        purge_cached_app()


@pytest.fixture
def applications(project, tmp_path, monkeypatch):
    """A function that writes an application's file and returns its part of an empty storage."""
    folder = project / "apps"
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", (tmp_path / "storage").as_uri())

    def write(name, description="Answers questions.", more=""):
        (folder / f"{name}.yaml").write_text(APP.format(name=name, description=description) + more)
        return StoredApplication((tmp_path / "storage").as_uri(), name)

    write.folder = folder
    return write
