"""The stack of an earlier version, started by this one: its databases are brought up to date, and what it had begun goes on."""

import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import pytest
from mlflow import MlflowClient
from patience import wait_for
from stored_states import each_state, unpack

from nightshift.ledger import orders
from nightshift.ledger.store import Ledger
from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.credentials import passwords
from nightshift.stack.place import this_place

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
DONE = {"success", "failed", "skipped"}
PATIENCE = 600  # seconds that a small machine may take for one run


@pytest.fixture(scope="module", **each_state)
def place(request, tmp_path_factory, bucket, unused_port, nightshift):
    """The started stack."""
    state = unpack(request.param, tmp_path_factory.mktemp("state"))
    state.give_back()
    home = state.folder / "nightshift"
    (home / "airflow").mkdir(parents=True)
    for kept, at in (("airflow.db", "airflow/airflow.db"), ("mlflow.db", "mlflow.db"), ("artifacts", "artifacts")):
        shutil.move(state.folder / kept, home / at)
    as_if_no_time_had_passed(home / "airflow" / "airflow.db")
    environment = {
        **os.environ,
        "NIGHTSHIFT_HOME": str(home),
        "NIGHTSHIFT_PROJECT": str(state.folder),
        "NIGHTSHIFT_STORAGE": state.storage,
        "NIGHTSHIFT_CACHE": str(state.folder / "cache"),
        "NIGHTSHIFT_AIRFLOW_PORT": str(unused_port()),
        "NIGHTSHIFT_MLFLOW_PORT": str(unused_port()),
    }
    try:
        started = nightshift("up", environment)
        assert started.returncode == 0, started.stdout + started.stderr
        yield this_place(environment)
    finally:
        nightshift("down", environment)


def as_if_no_time_had_passed(database):
    """Let the people who were asked have time again, and no clock look at nights: it would give up the old order for lost."""
    with closing(sqlite3.connect(database)) as airflow, airflow:
        later = "strftime('%Y-%m-%d %H:%M:%f000', 'now', '+1 day')"
        airflow.execute(f"UPDATE task_instance SET trigger_timeout = {later} WHERE state = 'awaiting_input'")  # noqa: S608
        airflow.execute("UPDATE dag SET is_paused = 1 WHERE dag_id = 'helper_nightly_drift'")


@pytest.fixture
def api(place):
    """Airflow's REST API, as the user `operator`."""
    with AirflowApi(place) as api:
        yield api


@pytest.fixture
def ledger(place):
    return Ledger(place.storage, "helper")


@pytest.fixture
def ask(place):
    """A function that asks Airflow as a user, and returns the answer."""

    def asked(user, method, path, **body):
        login = {"username": user, "password": passwords(place)[user]}
        token = httpx.post(f"{place.airflow_url}/auth/token", json=login, trust_env=False, timeout=60).json()[
            "access_token"
        ]
        return httpx.request(
            method, f"{place.airflow_url}{path}", headers={"Authorization": f"Bearer {token}", "Accept": "text/html, */*"},
            json=body or None, trust_env=False, timeout=60,
        )  # fmt: skip

    return asked


def test_the_pages_show_what_waits_what_was_decided_and_what_was_trained(ask, ledger):
    waiting = list(ledger.requests().values())[-1]
    for path in ("/nightshift/", "/nightshift/apps/helper"):
        page = ask("viewer", "GET", path)
        assert page.status_code == 200, page.text
        assert waiting.subject in page.text
    assert "1 of the newest 1 nights with a verdict failed" in page.text
    assert "cannot be shown" not in page.text
    run = ask("viewer", "GET", f"/nightshift/apps/helper/runs/{waiting.dag_id}/{quote(waiting.run_id)}")
    assert run.status_code == 200, run.text
    assert "awaiting input" in run.text


def question(request):
    return f"/api/v2/dags/{request.dag_id}/dagRuns/{quote(request.run_id)}/taskInstances/approve/-1/hitlDetails"


def approve(ask, request, why):
    given = ask("approver", "PATCH", question(request), chosen_options=["Approve"], params_input={"why": why})
    assert given.status_code == 200, given.text


def test_the_approver_answers_the_question_of_then_and_the_model_is_released(ask, place, ledger):
    request = list(ledger.requests().values())[-1]
    models = MlflowClient(place.mlflow_url)
    assert models.get_registered_model("helper").aliases == {"champion": "1", "candidate": "2"}
    approve(ask, request, "after the upgrade")
    wait_for(lambda: len(ledger.releases()) > 1, PATIENCE, "the release", every=1)
    answer = ledger.answer(request.id)
    assert (answer.answer, answer.by, answer.reason) == ("approved", "approver", "after the upgrade")
    assert (ledger.releases()[-1].version, models.get_model_version_by_alias("helper", "champion").version) == (
        "2",
        "2",
    )


def test_the_order_of_then_is_trained_for_once_fine_tuning_is_unpaused(api, ledger):
    assert orders.open_order(ledger).number == 1
    api.unpause("helper_finetune")
    api.trigger("helper_finetune", "after", {"seed": 18})
    ended = wait_for(lambda: ledger.outcome(1), PATIENCE, "the outcome", every=1)
    assert (ended.result, ended.run_id) == ("registered", ledger.claim(1).run_id)
    assert orders.open_order(ledger) is None


def test_a_prompt_goes_from_an_edit_of_the_file_to_the_champion_and_back(api, ask, place, ledger):
    models, file = MlflowClient(place.mlflow_url), place.project / "apps" / "helper.yaml"

    def champion(number):
        return models.get_model_version_by_alias("helper", "champion").version == number

    def released_next(number):
        def waits():
            # As a person does: where an answer comes in the second of its question, Airflow may take the end of the process
            # that asked for the end of the one that goes on.
            read = datetime.now(UTC) - timedelta(seconds=3)
            asked = (one for one in ledger.requests().values() if one.version == number and one.asked < read)
            runs = {task["dag_run_id"] for task in api.tasks_in("awaiting_input")}
            return next((one for one in asked if one.run_id in runs), None)

        asked = wait_for(waits, PATIENCE, f"a question about version {number}", every=1)
        approve(ask, asked, "read it")
        wait_for(lambda: champion(number), PATIENCE, f"version {number}", every=1)
        return asked

    # So small a model names no intent; the version that was trained above is the first with parts.
    wait_for(
        lambda: all(run["state"] in DONE for run in api.runs("helper_finetune")), PATIENCE, "all trainings", every=1
    )
    number = int(models.get_model_version_by_alias("helper", "candidate").version)
    edited = file.read_text().replace("min_examples: 10,", "min_examples: 10, min_score: 0, min_gain_on_new: 0,")
    file.write_text(edited)
    api.trigger("helper_release", "trained", {})
    released_next(str(number))
    file.write_text(edited + "prompt: {system: You name the intent of a message.}\n")
    api.unpause("helper_reconfigure")  # its clock notices the edit
    asked = released_next(str(number + 1))
    assert "Nothing was trained" in ask("approver", "GET", question(asked)).json()["body"]
    tags = [models.get_model_version("helper", str(of)).tags for of in (number, number + 1)]
    same = {
        part: tags[0][f"nightshift.part.{part}"] == tags[1][f"nightshift.part.{part}"] for part in ("weights", "prompt")
    }
    assert same == {"weights": True, "prompt": False}
    api.unpause("helper_rollback")
    api.trigger("helper_rollback", "back", {"reason": "it speaks too much"})
    wait_for(lambda: champion(str(number)), PATIENCE, f"version {number} again", every=1)
