"""One alert of each kind, as people get them to see before the night in which it matters."""

import logging
import os

import pytest
from told import application, hook_connection, unused_port

from nightshift.alerts.outbox import Outbox
from nightshift.alerts.samples import SAMPLES
from nightshift.cli import main
from nightshift.errors import ExitCode
from nightshift.settings.people import Kind

FILE = """\
schedule: null
sources: [{{uri: "/data/x.csv", columns: {{prompt: text, answer: intent}}}}]
alerts: {{routes: {routes}}}
"""


@pytest.fixture
def bank(project, tmp_path, monkeypatch):
    """A function that writes the file of an application with these routes."""
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", (tmp_path / "storage").as_uri())
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "client")
    levels = [(handler, handler.level) for handler in logging.getLogger().handlers]
    yield lambda routes: (project / "apps" / "bank.yaml").write_text(FILE.format(routes=routes))
    for handler, level in levels:
        handler.setLevel(level)


def test_there_is_a_sample_of_each_kind():
    assert set(SAMPLES) == set(Kind)


def test_every_route_is_tried_and_says_what_it_took(bank, hook, mails, monkeypatch, capsys):
    monkeypatch.setenv("AIRFLOW_CONN_DEAD", hook_connection(unused_port()))
    bank("[{to: hook, severity: info}, {to: ops_mail, mail: [a@example.org], severity: critical}, {to: dead}]")
    assert main(["alerts", "test", "bank"]) == ExitCode.BAD_ENVIRONMENT
    assert len(hook.taken) == len(Kind)
    assert all("TEST" in body["title"] and "This is a test" in body["message"] for body in hook.taken)
    critical = [one for one in SAMPLES.values() if one[0] == "critical"]
    assert len(mails.taken) == len(critical)
    mailbox, *routes = capsys.readouterr().out.splitlines()
    assert mailbox == "mailbox of the dashboard: 15 messages"
    assert routes[0] == "hook: took 15 of 15 messages (all kinds)"
    assert routes[1] == "ops_mail to a@example.org: took 5 of 5 messages (5 of 15 kinds come here)"
    assert routes[2].startswith("dead: took 0 of 13 messages (13 of 15 kinds come here); then: JSON: ")


def test_a_test_opens_no_condition_and_leaves_nothing_waiting(bank, hook, tmp_path):
    bank("[{to: hook}]")
    assert main(["alerts", "test", "bank"]) == ExitCode.OK
    assert main(["alerts", "test", "bank"]) == ExitCode.OK
    box = Outbox((tmp_path / "storage").as_uri(), "bank")
    assert (box.open(), box.waiting(application({"to": "hook"}).alerts)) == ([], [])
    assert len(box.messages(100)) == 2 * len(Kind)


def test_without_routes_it_says_so(bank, capsys):
    bank("[]")
    assert main(["alerts", "test", "bank"]) == ExitCode.OK
    assert "bank has no routes: nothing is sent" in capsys.readouterr().out


def test_an_application_that_is_not_there_is_named(bank, capsys):
    bank("[]")
    assert main(["alerts", "test", "bnak"]) == ExitCode.BAD_INPUT
    assert "bnak.yaml: there is no such file" in capsys.readouterr().err


def test_where_there_is_no_airflow_nothing_is_sent_and_the_message_says_where_to_call_it(
    bank, monkeypatch, capsys, tmp_path
):
    bank("[]")
    for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path / "none"))
    assert main(["alerts", "test", "bank"]) == ExitCode.BAD_ENVIRONMENT
    assert "no Airflow found" in capsys.readouterr().err
    assert not list(tmp_path.rglob("mailbox"))
