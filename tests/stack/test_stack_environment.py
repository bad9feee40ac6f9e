"""Airflow's processes get the stack's own settings and secrets, and nothing of another Airflow."""

import json
import os
import re
import stat
from pathlib import Path
from urllib.request import proxy_bypass

import pytest

from nightshift.audit.signature import signing_key
from nightshift.errors import BadEnvironment, BadInput
from nightshift.jobs.environment import allowed
from nightshift.settings.project import PACKAGE
from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.credentials import AUDIT_KEY, USERS, passwords, stack_keys
from nightshift.stack.environment import (
    airflow_environment,
    api_server_environment,
    mlflow_environment,
    scheduler_environment,
)
from nightshift.stack.place import CHECKOUT, Place, this_place
from nightshift.stack.run import main as run
from nightshift.stack.samples import variables_of
from nightshift.stack.up import models_to_prepare, where


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return this_place({"NIGHTSHIFT_HOME": str(tmp_path), "NIGHTSHIFT_AIRFLOW_PORT": "18099"})


def test_the_settings_of_another_airflow_in_the_shell_do_not_reach_the_stack(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://production/airflow")
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", "True")
    monkeypatch.setenv("AIRFLOW_CONFIG", "/production/airflow.cfg")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://production")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://warehouse")

    environment = airflow_environment(place)

    assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"sqlite:///{place.airflow_home}/airflow.db?timeout=60"
    assert environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] == "False"
    assert not any("production" in value for value in {**environment, **mlflow_environment()}.values())
    assert environment["AIRFLOW_CONN_WAREHOUSE"] == "postgresql://warehouse"


def test_behind_a_proxy_the_stacks_own_servers_are_still_reached_directly(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://proxy.example.org:3128")
    monkeypatch.setenv("NO_PROXY", "intra.example.org")
    environment = airflow_environment(place)
    monkeypatch.setattr(os, "environ", environment)
    assert [proxy_bypass(name) for name in ("127.0.0.1:8080", "localhost", "intra.example.org", "example.org")] == [
        True, True, True, False,
    ]  # fmt: skip


def test_the_api_server_gives_up_a_database_in_use_long_before_the_others(place: Place) -> None:
    waits = {
        name: int(environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].partition("timeout=")[2])
        for name, environment in (("server", api_server_environment(place)), ("others", airflow_environment(place)))
    }
    assert waits["server"] * 10 < waits["others"]


def test_secrets_are_long_kept_and_for_this_user_alone(place: Place) -> None:
    keys, words = stack_keys(place), passwords(place)

    assert (stack_keys(place), passwords(place)) == (keys, words)
    assert len(keys["jwt_secret"]) >= 64
    assert len(keys["api_secret_key"]) >= 64
    assert set(words) == set(USERS) == {"viewer", "approver", "operator", "admin", "housekeeping"}
    assert len(set(words.values())) == len(words)
    for file in (place.passwords, place.home / "keys.json"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_only_the_schedulers_processes_have_the_key_of_the_audit_log_and_no_job_gets_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(AUDIT_KEY, "of another Nightshift")

    environment = scheduler_environment(place)

    assert environment[AUDIT_KEY] == stack_keys(place)["audit_key"]
    assert signing_key(environment[AUDIT_KEY])
    for other in (
        airflow_environment(place),
        api_server_environment(place),
        mlflow_environment(),
        allowed(environment),
    ):
        assert AUDIT_KEY not in other
        assert environment[AUDIT_KEY] not in other.values()


def test_a_user_added_later_gets_a_password_and_the_others_keep_theirs(place: Place) -> None:
    place.passwords.write_text('{"admin": "chosen by me"}')

    words = passwords(place)

    assert words["admin"] == "chosen by me"
    assert set(words) == set(USERS)


def test_a_broken_secrets_file_is_named(place: Place) -> None:
    place.passwords.write_text("{")

    with pytest.raises(BadEnvironment, match=r"passwords\.json"):
        passwords(place)


def test_an_airflow_that_does_not_answer_is_told_with_what_to_do(place: Place) -> None:
    with pytest.raises(BadEnvironment, match="does not answer"):
        AirflowApi(place).has_dag("banking_assistant_ingest")


def test_what_is_printed_names_the_password_file_and_no_password(place: Place) -> None:
    text = where(place)

    assert str(place.passwords) in text
    assert not any(word in text for word in passwords(place).values())


def test_housekeeping_asks_the_rest_api_as_a_user_that_may_only_look(place: Place) -> None:
    connection = json.loads(airflow_environment(place)["AIRFLOW_CONN_NIGHTSHIFT_AIRFLOW"])

    assert (connection["host"], connection["port"]) == ("127.0.0.1", place.airflow_port)
    assert connection["password"] == passwords(place)[connection["login"]]
    assert USERS[connection["login"]] == "viewer"


def test_everything_listens_on_this_machine_only(place: Place) -> None:
    environment = airflow_environment(place)

    assert environment["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert environment["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:18099"
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:18099/execution/"


def test_a_project_has_a_stack_of_its_own_in_its_folder(project: Path, tmp_path: Path) -> None:
    full = this_place(variables_of("full", {}))
    documents = this_place(variables_of("documents", {"NIGHTSHIFT_HOME": str(tmp_path / "home")}))
    sample, own = this_place({}), this_place({"NIGHTSHIFT_PROJECT": str(project)})

    assert (sample.project, sample.home) == (PACKAGE, CHECKOUT / ".nightshift")
    assert (full.home, documents.home) == (CHECKOUT / ".nightshift" / "full", tmp_path / "home")
    assert (own.project, own.home) == (project, project / ".nightshift")
    assert own.checkout == CHECKOUT
    assert [re.search("stop it with `(.*)`", where(one))[1] for one in (sample, full, documents, own)] == [
        "make down",
        "make down SAMPLE=full",
        "make down SAMPLE=documents",
        f"NIGHTSHIFT_PROJECT={project} nightshift down",
    ]


def test_airflows_processes_and_jobs_find_the_project_wherever_they_are_started(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.parent)
    own = this_place({"NIGHTSHIFT_PROJECT": project.name})
    own.home.mkdir()

    environment = airflow_environment(own)

    assert environment["NIGHTSHIFT_PROJECT"] == str(project)
    assert allowed(environment)["NIGHTSHIFT_PROJECT"] == str(project)


def test_only_base_models_that_are_prepared_here_are_fetched_before_a_job_needs_them(project: Path) -> None:
    for name, model in (("one", "smollm2-135m-instruct"), ("two", "s3://models/seven-billion")):
        text = f"base_model: {model}\nsources: [{{uri: /data/x.csv, columns: {{prompt: text}}}}]\n"
        (project / "apps" / f"{name}.yaml").write_text(text)

    assert models_to_prepare() == ["smollm2-135m-instruct"]


def test_the_story_of_the_sample_is_not_run_on_another_project(project: Path) -> None:
    with pytest.raises(BadInput, match=r"has no banking_assistant and no document_assistant: unset NIGHTSHIFT_PROJECT"):
        run()
