"""What Slack and PagerDuty get, in their own forms; only their addresses are those of this machine."""

import json

from apprise.plugins import pagerduty, slack
from told import application, drift, passed

from nightshift.settings.people import Kind, Severity

LINKS = {"Task log": "https://airflow.example.org/log", "Run": "https://airflow.example.org/run"}


def connection(path):
    return json.dumps({"conn_type": "apprise", "extra": {"config": {"path": path}}})


def test_pagerduty_resolves_what_the_alert_triggered(outbox, drain, hook, monkeypatch):
    url = f"http://127.0.0.1:{hook.server_address[1]}/enqueue"
    monkeypatch.setitem(pagerduty.PAGERDUTY_API_LOOKUP, "us", url)
    monkeypatch.setenv("AIRFLOW_CONN_PAGER", connection("pagerduty://INTEGRATIONKEY@APIKEY?action=map"))
    app = application({"to": "pager"})
    outbox.accept(drift(severity=Severity.CRITICAL, links=LINKS))
    assert drain(app) == {}
    outbox.accept(passed("2026-11-21"))
    assert drain(app) == {}
    triggered, resolved = hook.taken
    assert [triggered["event_action"], resolved["event_action"]] == ["trigger", "resolve"]
    assert triggered["dedup_key"] == resolved["dedup_key"]
    assert triggered["payload"]["severity"] == "critical"
    assert triggered["payload"]["summary"].startswith("[bank] CRITICAL: drift in the interval 2026-11-20")
    assert triggered["links"] == [{"href": "https://airflow.example.org/log"}]


def test_conditions_that_were_told_together_are_incidents_of_their_own_and_resolved_apart(
    outbox, drain, hook, monkeypatch
):
    url = f"http://127.0.0.1:{hook.server_address[1]}/enqueue"
    monkeypatch.setitem(pagerduty.PAGERDUTY_API_LOOKUP, "us", url)
    monkeypatch.setenv("AIRFLOW_CONN_PAGER", connection("pagerduty://INTEGRATIONKEY@APIKEY?action=map"))
    app = application({"to": "pager"})
    bias = {"kind": Kind.BIAS, "subject": "bias", "condition": "bias", "title": "bias in the interval 2026-11-20"}
    outbox.accept(drift())
    outbox.accept(drift(**bias))
    assert drain(app) == {}
    outbox.accept(passed("2026-11-21"))
    assert drain(app) == {}
    one, other, over = hook.taken
    assert [event["event_action"] for event in hook.taken] == ["trigger", "trigger", "resolve"]
    assert one["dedup_key"] != other["dedup_key"]
    (resolved,) = [event for event in (one, other) if event["dedup_key"] == over["dedup_key"]]
    assert "drift in the interval" in resolved["payload"]["summary"]


def test_slack_shows_links_and_leaves_hostile_text_as_it_is(outbox, drain, hook, monkeypatch):
    monkeypatch.setattr(slack.NotifySlack, "webhook_url", f"http://127.0.0.1:{hook.server_address[1]}")
    monkeypatch.setenv("AIRFLOW_CONN_CHAT", connection("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"))
    outbox.accept(
        drift(title="@channel drift", facts=["<!channel> @here <https://evil.example.org|click> *bold*"], links=LINKS)
    )
    drain(application({"to": "chat"}))
    (sent,) = [json.dumps(body) for body in hook.taken]
    assert "<https://airflow.example.org/log|Task log>" in sent
    assert "<!channel>" not in sent
    assert "<https://evil.example.org" not in sent
    assert "@here" not in sent
    assert "@channel" not in sent
    assert "channel drift" in sent
