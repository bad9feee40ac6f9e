"""What people do in Airflow is in the log, in words and without secrets; what Airflow does itself is not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from audit_logs import NOW

from nightshift.audit.airflow_events import airflow_audit_events, audit_event_of
from nightshift.audit.chain import Chain
from nightshift.audit.entry import chained
from nightshift.audit.untrusted import MOST_DETAILS, bounded, without_secrets
from nightshift.audit.verify import verify

SCRIPT = Path(__file__).with_name("make_events.py")


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """The log of an Airflow in which people worked."""
    home = tmp_path_factory.mktemp("airflow")
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "alice:op,root:admin,onlooker:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of the tests, long enough for SHA-512, which wants 64 bytes",
    }
    others = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
    storage = (home / "storage").as_uri()
    run = subprocess.run(
        [sys.executable, SCRIPT, storage], env={**others, **settings}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return Chain(storage)


@pytest.mark.slow
def test_a_day_of_people_at_a_real_airflow_is_told_once_and_in_order(log):
    entries = [entry for entry in log.entries() if entry["source"] == "airflow"]
    told = [(entry["who"], entry["did"], *entry["to"].values()) for entry in entries]
    dag, run = "shop_eu_release", "by-hand"
    assert told == [
        ("alice", "unpaused a DAG", dag),
        ("alice", "ran a DAG", dag, run),
        ("alice", "answered a request", dag, run, "promote"),
        ("alice", "cleared tasks", dag, run),
        ("alice", "marked a task success", dag, run, "promote"),
        ("alice", "marked a run failed", dag, run),
        ("alice", "deleted a run", dag, run),
        ("root", "added a variable", "nightshift_storage"),
        ("root", "changed a variable", "nightshift_storage"),
        ("root", "changed variables"),
        ("root", "added a connection", "mail"),
        ("root", "deleted a connection", "mail"),
        ("root", "changed a pool", "default_pool"),
        ("root", "paused a DAG", dag),
        ("bob", "cli_variables_set"),
        ("scheduler", "paused a DAG", dag),
    ]
    assert {entry["application"] for entry in entries if "dag" in entry["to"]} == {"shop_eu"}
    assert verify(log, []).problems == []


@pytest.mark.slow
def test_the_answer_and_the_names_are_kept_and_no_secret_is(log):
    entries = {entry["did"]: entry for entry in log.entries()}
    answer = entries["answered a request"]["details"]
    assert (answer["chosen_options"], answer["params_input"]) == (["Approve"], {"reason": "better on returns"})
    assert entries["changed variables"]["details"]["actions"] == [{"action": "create", "of": ["other"]}]
    assert entries["cli_variables_set"]["details"]["command"] == "variables set other"
    text = str(list(log.entries()))
    assert "s3cret" not in text
    assert "x" * 500 in text
    assert "x" * 501 not in text


def event(name="trigger_dag_run", extra="{}", **fields):
    return {
        "event_log_id": 5, "when": "2026-11-24T06:00:00Z", "event": name, "owner": "alice", "dag_id": "shop_release",
        "run_id": None, "task_id": None, "map_index": None, "extra": extra, **fields,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["running", "success", "heartbeat timeout", "state mismatch", "cli_scheduler"])
def test_what_airflow_does_itself_is_nobodys_deed(name):
    assert audit_event_of(event(name, '{"host_name": "w1"}'), ["shop"]) is None


def test_an_event_of_a_later_airflow_is_kept_by_its_name():
    kept = audit_event_of(event("promote_everything", '{"method": "POST", "target": 3}'), ["shop"])
    assert (kept.did, kept.application, kept.details["target"]) == ("promote_everything", "shop", 3)


def nested(depth):
    return "[" * depth + "]" * depth


READABLE = ['["x"]', "null", "NaN", "-Infinity", "9" * 4_000, '"\\ud800"', '"\\u0000"', '{"\\ud800": 1}', nested(300)]
UNREADABLE = [nested(5_000), nested(90_000), "9" * 5_000, '"cut o']


@pytest.mark.parametrize(
    "name", ["patch_dag", "trigger_dag_run", "patch_task_instance", "bulk_variables", "a_later_one"]
)
def test_whatever_somebody_sends_is_in_the_log_and_keeps_no_other_from_it(name, tmp_path):
    keys = ("is_paused", "conf", "state", "new_state", "actions", "key", "name", "asset_id")
    hostile = [f'{{"method": "PATCH", "{key}": {value}}}' for key in keys for value in [*READABLE, *UNREADABLE]]
    hostile += [
        '{"method": "PATCH", "conf": "%s"}' % ("x" * 1_000_000),
        '{"method": ["PATCH"], "actions": [{"action": {}}]}',
    ]
    events = [event(name, extra, event_log_id=number) for number, extra in enumerate([*hostile, '{"method": "POST"}'])]
    chain = Chain(tmp_path.as_uri())
    chain.append("airflow", airflow_audit_events(lambda *_, **__: events, ["shop"], None), NOW)
    assert verify(chain, []).problems == []
    told = {entry["source_id"].split()[1]: entry for entry in chain.entries() if entry["source"] == "airflow"}
    assert len(told) == len(hostile) + 1
    assert {(entry["who"], entry["application"]) for entry in told.values()} == {("alice", "shop")}
    unread = [entry for entry in told.values() if entry["did"] == "did what cannot be read"]
    assert len(unread) == len(keys) * len(UNREADABLE)
    assert all(
        entry["details"]["event"] == name and len(str(entry)) < 10_000 for entry in told.values() if entry in unread
    )
    for file in (tmp_path / "audit").rglob("*.jsonl"):
        for line in file.read_text().splitlines():
            json.loads(line, parse_constant=pytest.fail)


@pytest.mark.parametrize("missing", list(event()))
def test_an_event_that_lacks_a_field_or_has_an_odd_one_is_in_the_log_all_the_same(missing):
    whole = event(extra='{"method": "POST"}')
    for odd in ({}, {missing: None}, {missing: ["x"]}, {missing: "\ud800"}, {missing: 10**4_000}):
        changed = {**{key: value for key, value in whole.items() if key != missing}, **odd}
        if kept := audit_event_of(changed, ["shop"]):
            assert chained(kept, 1, "0" * 64).hash
        else:
            assert missing == "extra"  # without a method it is Airflow's own note
            assert odd in ({}, {missing: None}, {missing: "\ud800"})


def test_the_same_number_in_a_new_database_is_another_deed():
    one, other = (
        audit_event_of(event(extra='{"method": "POST"}', when=f"2026-11-2{day}T06:00:00Z"), []) for day in (4, 5)
    )
    assert one.source_id != other.source_id


@pytest.mark.parametrize(
    "command",
    [
        ["airflow", "variables", "set", "--json", "key", "s3cret"],
        ["airflow", "connections", "add", "mail", "--conn-uri", "smtp://u:s3cret@host"],
        ["airflow", "connections", "add", "--conn-extra=s3cret", "mail"],
        ["airflow", "users", "create", "-p", "s3cret"],
        ["airflow", "variables", "set", "-d", "s3cret", "key", "s3cret"],
    ],
)
def test_no_command_line_brings_a_secret_along(command):
    extra = f'{{"host_name": "h", "full_command": "{command}"}}'
    kept = audit_event_of(event("cli_something_set", extra, dag_id=None), [])
    assert kept.details["command"].startswith(" ".join(command[1:3]))
    assert "s3cret" not in kept.model_dump_json()


def test_secrets_go_by_their_key_and_by_the_login_of_an_address():
    value = {"conf": {"api_key": "k", "Password": ["p"], "url": "postgres://u:p@h/db", "epochs": 3}}
    assert without_secrets(value) == {
        "conf": {"api_key": "***", "Password": "***", "url": "postgres://***@h/db", "epochs": 3}
    }


def test_details_are_bounded_whatever_was_sent():
    details = bounded(without_secrets({f"field_{number}": "x" * 5_000 for number in range(1_000)}))
    assert len(details["cut"]) == MOST_DETAILS
