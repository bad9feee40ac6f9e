"""Every role, every request of the table in docs/roles.md, both auth managers, on Airflow's real API server."""

import json
import re

import pytest
from make_airflow import SEEN
from matrix import ALLOWED_TOO, BODIES, DASHBOARD, ROLES, rows, told
from starlette.routing import Match

from nightshift.alerts.message import compose
from nightshift.alerts.outbox import MAILBOX

APPLICATION, OTHER = "banking_assistant", "returns_helper"

REFUSED = {403, 404}

pytestmark = pytest.mark.slow


def send(client, row, number=0, application=APPLICATION, method=None):
    """Send the request of a row; `{n}` is another number for each person, so that nobody finds another's work done."""
    message = compose([told(application)], MAILBOX).id

    def filled(text):
        return text.replace("{app}", application).replace("{n}", str(number)).replace("{message}", message)

    body = BODIES.get(row.request)
    body = None if body is None else json.loads(filled(json.dumps(body)))
    return client.request(method or row.method, filled(row.path), json=body)


@pytest.fixture(scope="module")
def people(fab_airflow, simple_airflow):
    """Somebody of every role at each auth manager, logged in."""
    return {
        airflow.manager: {"anonymous": airflow.client(), **{role: airflow.client(role) for role in ROLES}}
        for airflow in (fab_airflow, simple_airflow)
    }


@pytest.mark.parametrize(
    ("manager", "row"), [pytest.param(name, row, id=f"{name} {row.request}") for row in rows() for name in row.allowed]
)
def test_a_request_is_allowed_or_refused_as_documented(people, manager, row):
    wrong = []
    for number, (who, client) in enumerate(people[manager].items()):
        answer = send(client, row, number)
        is_allowed = answer.is_success or answer.status_code in ALLOWED_TOO.get(row.request, ())
        if who in row.allowed[manager] and not is_allowed:
            wrong.append(f"{who} should be allowed, but: {answer.status_code} {answer.text[:300]}")
        if who not in row.allowed[manager] and answer.status_code != (401 if who == "anonymous" else 403):
            wrong.append(f"{who} should be refused, but: {answer.status_code} {answer.text[:300]}")
    assert not wrong, "\n".join(wrong)


OTHERS = ("other_viewer", "other_operator", "other_approver")


@pytest.fixture(scope="module")
def others(fab_airflow):
    """Everybody of the other application."""
    return {who: fab_airflow.client(who) for who in OTHERS}


@pytest.mark.parametrize("row", [row for row in rows() if row.is_about_one_application], ids=lambda row: row.request)
def test_nobody_of_another_application_gets_in(others, row):
    answers = {who: send(client, row, 9 + number) for number, (who, client) in enumerate(others.items())}
    refused = 404 if row.is_of_the_dashboard else 403
    assert {who: answer.status_code for who, answer in answers.items()} == dict.fromkeys(others, refused)


@pytest.mark.parametrize(
    "row",
    [row for row in rows() if row.request.startswith("GET") and not row.is_about_one_application],
    ids=lambda row: row.request,
)
def test_a_list_shows_nothing_of_another_application(people, others, row):
    for name, clients in ((OTHER, [people["fab"][role] for role in ROLES[:3]]), (APPLICATION, others.values())):
        for client in clients:
            answer = send(client, row)
            assert answer.status_code in REFUSED or name not in answer.text


@pytest.mark.parametrize(
    "row", [row for row in rows() if "anonymous" not in row.allowed["fab"]], ids=lambda row: row.request
)
def test_somebody_without_a_role_sees_and_does_nothing(newcomer, row):
    answer = send(newcomer, row)
    if row.is_of_the_dashboard:
        assert answer.status_code == 404 or not any(name in answer.text for name in (APPLICATION, OTHER))
    else:
        assert answer.status_code == 403


@pytest.fixture(scope="module")
def newcomer(fab_airflow):
    """Somebody who logged in through the identity provider and is in none of the groups."""
    return fab_airflow.client("newcomer")


RUN = {"dag_id": f"{APPLICATION}_release", "dag_run_id": SEEN}
# Where Airflow looks into the body before it says who may.
BULK = {
    "patch /api/v2/dags/{dag_id}/dagRuns": {
        "actions": [{"action": "update", "entities": [{**RUN, "state": "failed"}]}]
    },
    "post /api/v2/dags/{dag_id}/clearDagRuns": {"dag_runs": [RUN]},
}


def test_no_route_of_airflow_is_open_to_who_is_not_logged_in_or_is_of_another_application(people, others):
    """Also those that the table does not name: whatever this version of Airflow offers."""
    anonymous, other = people["fab"]["anonymous"], others["other_operator"]
    values = {"dag_id": f"{APPLICATION}_release", "dag_run_id": SEEN, "task_id": "release", "map_index": "-1"}
    opened, entered = set(), set()
    for path, methods in anonymous.get("/openapi.json").json()["paths"].items():
        address = re.sub(r"{(\w+)}", lambda name: values.get(name[1], "1"), path)
        for method in methods.keys() & {"get", "post", "put", "patch", "delete"}:
            if anonymous.request(method, address, json={}).status_code != 401:
                opened.add(f"{method} {path}")
            body = BULK.get(f"{method} {path}", {})
            if "{dag_id}" in path and other.request(method, address, json=body).status_code != 403:
                entered.add(f"{method} {path}")

    assert opened == {f"get /api/v2/{path}" for path in ("monitor/health", "version", "auth/login", "auth/logout")}
    assert entered == set()


def test_nothing_of_another_application_is_smuggled_in_by_the_body(people, others):
    other, viewer = others["other_operator"], people["fab"]["viewer"]
    task = {**RUN, "task_id": "replay", "new_state": "failed"}
    own = f"/api/v2/dags/{OTHER}_release"
    before = viewer.get(f"/api/v2/dags/{RUN['dag_id']}/dagRuns/{SEEN}/taskInstances/replay").json()["state"]

    for method, path, body in (
        ("PATCH", f"{own}/dagRuns", BULK["patch /api/v2/dags/{dag_id}/dagRuns"]),
        ("PATCH", "/api/v2/dags/~/dagRuns", BULK["patch /api/v2/dags/{dag_id}/dagRuns"]),
        ("POST", f"{own}/clearDagRuns", {"dag_runs": [RUN], "dry_run": False}),
        ("POST", "/api/v2/backfills", {**BODIES["POST /api/v2/backfills"], "dag_id": f"{APPLICATION}_ingest"}),
    ):
        assert other.request(method, path, json=body).status_code == 403
    for path in ("/api/v2/dags/~/dagRuns/~/taskInstances", f"{own}/dagRuns/{SEEN}/taskInstances"):
        answer = other.patch(path, json={"actions": [{"action": "update", "entities": [task]}]})
        assert answer.json()["update"]["success"] == []
    all_alike = {"dag_id_pattern": APPLICATION}
    assert other.patch("/api/v2/dags", params=all_alike, json={"is_paused": False}).status_code == 403

    assert viewer.get(f"/api/v2/dags/{RUN['dag_id']}/dagRuns/{SEEN}/taskInstances/replay").json()["state"] == before
    assert viewer.get(f"/api/v2/dags/{RUN['dag_id']}").json()["is_paused"] is True


def test_the_table_has_every_page_of_the_dashboard():
    from nightshift.dashboard.app import app

    reached = set()
    for row in rows():
        if row.is_of_the_dashboard:
            scope = {"type": "http", "method": row.method, "path": row.path.removeprefix(DASHBOARD[:-1])}
            reached.add(next(route.path for route in app.routes if route.matches(scope)[0] == Match.FULL))
    assert {route.path for route in app.routes} - reached == set(), "docs/roles.md does not say who may open this"


@pytest.mark.parametrize("row", [row for row in rows() if row.is_of_the_dashboard], ids=lambda row: row.request)
def test_the_dashboard_takes_no_orders_but_those_of_the_table(people, row):
    known = {other.request for other in rows()}
    for method in {one for one in ("POST", "PUT", "PATCH", "DELETE") if f"{one} {row.path}" not in known}:
        assert send(people["fab"]["admin"], row, method=method).status_code == 405


def test_an_approver_who_was_not_asked_cannot_answer_for_the_others(fab_airflow):
    path = f"/api/v2/dags/{APPLICATION}_release/dagRuns/{{}}/taskInstances/approve/-1/hitlDetails"
    unasked = fab_airflow.client("unasked_approver")

    refused = unasked.patch(path.format("named-10"), json={"chosen_options": ["Approve"]})

    assert refused.status_code == 403
    assert "is not a respondent" in refused.text
    assert unasked.patch(path.format("anybody-10"), json={"chosen_options": ["Approve"]}).is_success


def test_housekeeping_sees_what_it_asks_for_of_every_application_and_changes_nothing(fab_airflow):
    client = fab_airflow.client("housekeeping")
    for path in ("dags/~/dagRuns", "dags/~/dagRuns/~/taskInstances", "eventLogs", "importErrors"):
        answer = client.get(f"/api/v2/{path}")
        assert answer.is_success
        assert OTHER in answer.text or path.endswith("taskInstances")
    refused = [row for row in rows() if not row.request.startswith("GET")]
    assert {send(client, row).status_code for row in refused} == {403}


def test_approvals_can_be_addressed_to_the_approvers_that_the_files_name(fab_airflow):
    variable = fab_airflow.client("admin").get("/api/v2/variables/nightshift_users").json()
    users = fab_airflow.made["users"]
    assert json.loads(variable["value"]) == {name: users[name] for name in ("approver", "other_approver")}


def test_two_hats_are_worth_more_than_each_alone(fab_airflow):
    """A limit of FAB that docs/roles.md names: what is given for all DAGs together meets what is given for one."""
    client = fab_airflow.client("two_hats")  # operator of the one application, approver of the other
    mark = {"new_state": "success"}
    path = f"/api/v2/dags/{OTHER}_{{}}"

    assert client.patch(path.format("release/dagRuns/named-9/taskInstances/release"), json=mark).is_success
    answer = f"/api/v2/dags/{APPLICATION}_release/dagRuns/{{}}/taskInstances/approve/-1/hitlDetails"
    assert client.patch(answer.format("anybody-9"), json={"chosen_options": ["Reject"]}).is_success

    assert client.patch(answer.format("named-9"), json={"chosen_options": ["Reject"]}).status_code == 403
    assert client.post(path.format("release/dagRuns"), json={"logical_date": None}).status_code == 403
    assert client.post(path.format("retraining/dagRuns"), json={"logical_date": None}).status_code == 403
    assert client.patch(path.format("finetune"), json={"is_paused": True}).status_code == 403
