"""Alerts on the pages: the mailbox, open ones, and who silenced them."""

from datetime import UTC, datetime, timedelta

from nightshift.alerts.alert import Alert
from nightshift.alerts.global_alerts import ALL_APPLICATIONS
from nightshift.alerts.message import compose
from nightshift.alerts.outbox import MAILBOX, Outbox
from nightshift.ledger.records import AlertResponse
from nightshift.ledger.store import Ledger

NOW = datetime.now(UTC)


def test_a_message_of_the_outbox_is_in_the_mailbox(visit, helper):
    outbox = Outbox(helper.storage, "helper")
    alert = Alert(
        application="helper", kind="drift", severity="critical", title="drift of <b>2026-11-27</b>", condition="drift"
    )
    outbox.accept(alert)
    message = compose([alert], MAILBOX)
    outbox.into_mailbox(message, NOW)
    assert "drift of &lt;b&gt;2026-11-27&lt;/b&gt;" in visit("/mailbox").text
    assert "drift of &lt;b&gt;2026-11-27&lt;/b&gt;" in visit("/apps/helper").text
    assert f"/mailbox/helper/{message.id}/html" in visit(f"/mailbox/helper/{message.id}").text
    html = visit(f"/mailbox/helper/{message.id}/html")
    assert html.headers["content-security-policy"].startswith("sandbox;")
    assert "<b>2026-11-27</b>" not in html.text
    assert visit("/mailbox/helper/nothing").status_code == 404


def test_an_open_alert_says_who_silenced_it_until_when_and_why_and_only_operators_find_the_form(visit, helper):
    alert = Alert(application="helper", kind="drift", severity="critical", title="drift", condition='d"><b>rift')
    Outbox(helper.storage, "helper").accept(alert)
    form = 'data-runs="/api/v2/dags/helper_acknowledge/dagRuns"'
    page = visit("/apps/helper", user="admin").text
    assert "incident key <code>d&#34;&gt;&lt;b&gt;rift</code>" in page
    assert page.count(form) == 1
    assert '<option value="end">' not in page
    viewed = visit("/apps/helper").text
    assert "incident key" in viewed
    assert form not in viewed
    response = AlertResponse(
        condition=alert.condition, action="silence", until=NOW + timedelta(hours=4), reason="<b>known</b>", by="ana<i>",
        created=NOW,
    )  # fmt: skip
    Ledger(helper.storage, "helper").respond(response, "wish")
    page = visit("/apps/helper", user="admin").text
    until = f"{response.until:%Y-%m-%d %H:%M} UTC"
    assert f"silenced</span> by ana&lt;i&gt; until {until}: &lt;b&gt;known&lt;/b&gt;" in page
    assert '<option value="end">' in page
    Ledger(helper.storage, "helper").respond(response.model_copy(update={"until": NOW}), "another")
    assert "silenced</span>" not in visit("/apps/helper").text


def test_what_concerns_every_application_is_in_the_mailbox_of_whoever_may_see_one(visit, helper):
    alert = Alert(
        application=ALL_APPLICATIONS, kind="job_stuck", severity="critical", title="Airflow cannot read ingest.py"
    )
    message = compose([alert], MAILBOX)
    Outbox(helper.storage, ALL_APPLICATIONS).into_mailbox(message, NOW)
    assert "Airflow cannot read ingest.py" in visit("/mailbox").text
    assert "Airflow cannot read ingest.py" not in visit("/mailbox?application=helper").text
    page = visit(f"/mailbox/{ALL_APPLICATIONS}/{message.id}").text
    assert "Airflow cannot read ingest.py" in page
    assert f"/apps/{ALL_APPLICATIONS}" not in page
