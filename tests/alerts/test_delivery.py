"""Delivery to a real mail server and a real webhook: content, outages, limits, and two who deliver at once."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from told import application, drift, hook_connection, passed, unused_port

from nightshift.alerts import delivery
from nightshift.alerts.alert import Alert
from nightshift.alerts.delivery import deliver
from nightshift.alerts.message import compose
from nightshift.alerts.outbox import route_key
from nightshift.settings.people import Severity

MAIL = {"to": "ops_mail", "mail": ["ops@example.org", "night@example.org"]}
HOOK = {"to": "hook"}


def test_a_mail_has_a_plain_and_an_html_form_and_an_id_that_readers_know_again(outbox, drain, mails):
    outbox.accept(drift(title="drift <b>now</b>", links={"Task log": "https://airflow.example.org/x"}))
    assert drain(application(MAIL)) == {}
    (mail,) = mails.taken
    assert mail["Subject"] == "[bank] WARNING: drift <b>now</b>"
    assert (mail["From"], mail["To"]) == ("nightshift@example.org", "ops@example.org, night@example.org")
    key = route_key(application(MAIL).alerts.routes[0])
    assert mail["Message-ID"] == f"<{compose([drift()], key).id}.bank@nightshift>"
    plain, html = mail.iter_parts()
    assert [part.get_content_type() for part in (plain, html)] == ["text/plain", "text/html"]
    assert "drift <b>now</b>" in plain.get_content()
    assert "https://airflow.example.org/x" in plain.get_content()
    assert "drift &lt;b&gt;now&lt;/b&gt;" in html.get_content()


def test_a_webhook_gets_the_text_and_how_bad_it_is(outbox, drain, hook):
    outbox.accept(drift())
    outbox.accept(drift(kind="bias", severity=Severity.CRITICAL, condition="bias", title="bias"))
    drain(application(HOOK))
    (body,) = hook.taken
    assert (body["title"], body["type"]) == ("[bank] CRITICAL: bias (and 1 more)", "failure")
    assert "drift in the interval 2026-11-20" in body["message"]


def test_a_recovery_reaches_the_route_that_had_the_alert_and_says_so(outbox, drain, hook):
    app = application({**HOOK, "severity": "critical"})
    outbox.accept(drift(severity=Severity.CRITICAL))
    drain(app)
    outbox.accept(passed("2026-11-21"))
    drain(app)
    assert [body["type"] for body in hook.taken] == ["failure", "success"]
    assert hook.taken[1]["title"].startswith("[bank] recovered: ")


def test_each_route_gets_what_it_asked_for_and_the_mailbox_gets_everything(outbox, drain, hook, mails):
    outbox.accept(drift())
    outbox.accept(drift(kind="retraining_started", condition="", severity=Severity.INFO, title="started"))
    drain(application({**HOOK, "kinds": ["drift"]}, {**MAIL, "severity": "critical"}))
    assert [body["title"] for body in hook.taken] == ["[bank] WARNING: drift in the interval 2026-11-20"]
    assert mails.taken == []
    (message,) = outbox.messages(10)
    assert [alert.title for alert in message.alerts] == ["drift in the interval 2026-11-20", "started"]


def test_an_application_without_routes_fills_its_mailbox(outbox, drain):
    outbox.accept(drift())
    assert drain(application()) == {}
    assert [message.subject for message in outbox.messages(10)] == ["[bank] WARNING: drift in the interval 2026-11-20"]
    assert outbox.undelivered() == []


def test_nothing_is_sent_twice(outbox, drain, hook):
    outbox.accept(drift())
    for _ in range(3):
        drain(application(HOOK))
        outbox.accept(drift())
    assert len(hook.taken) == 1


def test_two_routes_to_one_place_bring_nothing_twice(outbox, drain, hook):
    outbox.accept(drift(severity=Severity.CRITICAL))
    drain(application({**HOOK, "severity": "critical"}, {**HOOK, "kinds": ["drift"]}))
    assert len(hook.taken) == 1


def test_what_a_dead_server_did_not_take_waits_and_comes_grouped_by_night(outbox, drain, monkeypatch, hook):
    app = application(HOOK)
    monkeypatch.setenv("AIRFLOW_CONN_HOOK", hook_connection(unused_port()))
    for night, cause in (("2026-11-20", "a"), ("2026-11-20", "b"), ("2026-11-21", "c")):
        outbox.accept(drift(night, cause=cause))
        assert "Connection error" in drain(app)["hook"]
    (waiting,) = outbox.waiting(app.alerts)
    assert (waiting.tries, len(waiting.message.alerts)) == (3, 3)
    monkeypatch.setenv("AIRFLOW_CONN_HOOK", hook_connection(hook.server_address[1]))
    assert drain(app) == {}
    assert [body["title"] for body in hook.taken] == [
        "[bank] WARNING: drift in the interval 2026-11-20 (and 1 more)",
        "[bank] WARNING: drift in the interval 2026-11-21",
    ]
    assert outbox.waiting(app.alerts) == []
    assert outbox.route_state(route_key(app.alerts.routes[0])).trouble is None


def test_a_server_that_answers_with_an_error_gets_the_message_when_it_is_well(outbox, drain, hook, mails):
    app = application(HOOK, MAIL)
    hook.status, mails.answer = 500, "451 come back later"
    outbox.accept(drift())
    troubles = drain(app)
    assert "error=500" in troubles["hook"]
    assert "come back later" in troubles["ops_mail"]
    hook.status, mails.answer = 200, "250 OK"
    assert drain(app) == {}
    assert (len(hook.taken), len(mails.taken)) == (1, 1)


def test_a_channel_that_answers_late_holds_nobody_up(outbox, monkeypatch, hook):
    monkeypatch.setattr(delivery, "SEND_SECONDS", 0.3)
    hook.delay = 3
    outbox.accept(drift())
    began = datetime.now(UTC)
    troubles = deliver(application(HOOK), outbox, seconds=5, rest_after_trouble=timedelta(0))
    assert datetime.now(UTC) - began < timedelta(seconds=3)
    assert list(troubles) == ["hook"]
    assert len(outbox.undelivered()) == 1


def test_a_route_that_just_failed_is_not_asked_again_by_those_who_must_not_wait(outbox, hook):
    app = application(HOOK)
    hook.status = 500
    outbox.accept(drift())
    deliver(app, outbox, seconds=5, rest_after_trouble=timedelta(0))
    hook.status = 200
    assert deliver(app, outbox, seconds=5, rest_after_trouble=timedelta(minutes=5)) == {}
    assert hook.taken == []
    assert len(outbox.undelivered()) == 1


def test_one_dead_route_keeps_no_other_from_its_messages(outbox, drain, hook, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_DEAD", hook_connection(unused_port()))
    outbox.accept(drift())
    assert list(drain(application({"to": "dead"}, {"to": "nobody"}, HOOK))) == ["dead", "nobody"]
    assert len(hook.taken) == 1


def test_more_than_people_can_read_in_an_hour_waits_and_comes_as_one_digest(outbox, drain, hook, monkeypatch):
    app = application(HOOK, max_an_hour=2)
    for day in range(1, 8):
        outbox.accept(drift(f"2026-11-{day:02d}", cause=str(day)))
        drain(app)
    assert len(hook.taken) == 2
    assert len(outbox.messages(10)) == 7
    monkeypatch.setattr(delivery, "HOUR", timedelta(0))
    drain(app)
    assert [body["title"] for body in hook.taken[2:]] == [
        "[bank] WARNING: drift in the interval 2026-11-03",
        "[bank] WARNING: drift in the interval 2026-11-04 (and 3 more)",
    ]


def test_two_who_deliver_at_once_send_every_message_once(outbox, hook):
    app = application(HOOK, max_an_hour=100)
    for day in range(1, 6):
        outbox.accept(drift(f"2026-11-{day:02d}", cause=str(day)))
    hook.delay = 0.05
    together = threading.Barrier(4)

    def run():
        together.wait()
        deliver(app, outbox, seconds=60, rest_after_trouble=timedelta(0))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    titles = [body["title"] for body in hook.taken]
    assert sorted(titles) == sorted(set(titles))
    assert len(titles) == 5
    assert outbox.undelivered() == []


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        ('{"conn_type": "http", "host": "x"}', "is of type 'http'"),
        ('{"conn_type": "apprise", "extra": {"config": {"path": "nosuch://S3CRET/T0KEN"}}}', "does not understand"),
        ('{"conn_type": "apprise", "extra": {"config": "{"}}', "is not {'path': URL}"),
        ('{"conn_type": "apprise"}', "names no service"),
        ('{"conn_type": "smtp", "host": "127.0.0.1"}', "has no `mail` addresses"),
    ],
)
def test_a_wrong_connection_is_told_in_words(outbox, drain, monkeypatch, connection, said):
    monkeypatch.setenv("AIRFLOW_CONN_WRONG", connection)
    outbox.accept(drift())
    assert said in drain(application({"to": "wrong"}))["wrong"]


@pytest.mark.usefixtures("hook")
def test_no_secret_of_a_connection_is_in_an_error_a_log_or_the_storage(outbox, drain, monkeypatch, caplog, tmp_path):
    caplog.set_level("DEBUG", "nightshift")
    monkeypatch.setenv("AIRFLOW_CONN_DEAD", hook_connection(unused_port()))
    outbox.accept(drift())
    troubles = drain(application({"to": "dead"}, HOOK))
    assert list(troubles) == ["dead"]
    kept = "".join(file.read_text() for file in tmp_path.rglob("*.json"))
    ours = "".join(
        record.getMessage() for record in caplog.records if record.name.startswith(("nightshift", "apprise"))
    )
    for text in (str(troubles), kept, ours):
        for secret in ("T0KEN", "S3CRET", "pass-w0rd"):
            assert secret not in text


def test_one_address_that_the_server_refuses_bothers_the_others_once(outbox, drain, mails):
    app = application({"to": "ops_mail", "mail": ["ops@example.org", "nobody@example.org"]})
    outbox.accept(drift())
    assert drain(app) == drain(app) == {}
    assert len(mails.taken) == 1


def test_a_server_that_refuses_every_address_leaves_the_message_waiting(outbox, drain, mails):
    outbox.accept(drift())
    assert "no such user" in drain(application({"to": "ops_mail", "mail": ["nobody@example.org"]}))["ops_mail"]
    assert (mails.taken, len(outbox.undelivered())) == ([], 1)


def test_nobody_is_called_by_name_in_a_chat(monkeypatch, hook):
    import apprise

    from nightshift.alerts import channels

    message = compose([Alert(application="bank", kind="drift", severity="warning", title="@everyone <!channel>")], "r")
    (discord,) = apprise.Apprise("discord://1234567890/abcdefghij")
    (slack,) = apprise.Apprise("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ")
    assert "@everyone" not in channels._body(message, "text", discord)
    assert "<!channel>" not in channels._body(message, "markdown", slack)
