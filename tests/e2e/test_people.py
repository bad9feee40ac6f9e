"""What people do in a browser with the sample's real history: look, start a run, approve and reject a release."""

import re
import time
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect

from nightshift.ledger.store import Ledger
from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.credentials import passwords
from nightshift.stack.place import this_place

HOUR = 3600
# A page of Airflow on a machine that also runs its scheduler.
PAGE_MILLISECONDS = 60_000
expect.set_options(timeout=PAGE_MILLISECONDS)
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(HOUR)]
APPLICATION = "banking_assistant"
RELEASE = f"{APPLICATION}_release"
ROLES = ("viewer", "approver", "operator", "admin")


@pytest.fixture(scope="module")
def place(stack, nightshift):
    """The stack after the sample's story; where it was told before, it is found."""
    run = nightshift("run", stack, timeout=HOUR)
    assert run.returncode == 0, run.stdout + run.stderr
    return this_place(stack)


@pytest.fixture
def log_in(place, chromium):
    """Open a page of Airflow as one of the stack's users, at the login that a browser is sent to."""
    contexts = []

    def opened(user: str):
        context = chromium.new_context(viewport={"width": 1280, "height": 1000}, base_url=place.airflow_url)
        context.set_default_timeout(PAGE_MILLISECONDS)
        contexts.append(context)
        page = context.new_page()
        page.goto("/nightshift/")
        page.fill("input[name=username]", user)
        page.fill("input[name=password]", passwords(place)[user])
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda url: "/auth/login" not in url)
        return page

    yield opened
    for context in contexts:
        context.close()


@contextmanager
def operator(place):
    with AirflowApi(place) as api:
        yield api


@pytest.mark.parametrize("role", ROLES)
def test_each_role_logs_in_and_sees_what_happened_to_the_sample(log_in, role):
    page = log_in(role)
    page.goto("/nightshift/")
    expect(page.get_by_role("link", name=APPLICATION)).to_be_visible()
    page.get_by_role("link", name=APPLICATION).click()
    shown = page.get_by_role("main")
    for text in (
        re.compile(r"Champion:? version 2"),
        "2026-11-07",
        re.compile("prompt novelty", re.IGNORECASE),
        "2 of the newest 3 intervals with a verdict failed",
    ):
        expect(shown).to_contain_text(text)  # waits: a browser shows a page before it has all of it
    expect(page.locator("canvas").nth(3)).to_be_attached()


def test_the_dashboard_is_in_airflows_own_menu(log_in):
    page = log_in("viewer")
    page.goto("/")
    page.get_by_role("link", name="Nightshift").click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("link", name=APPLICATION)).to_be_visible()


def test_a_run_has_a_tab_that_says_what_it_did(log_in, place):
    with operator(place) as api:
        run = next(run for run in api.runs(f"{APPLICATION}_finetune") if "asset_triggered" in run["dag_run_id"])
    page = log_in("viewer")
    page.goto(f"/dags/{APPLICATION}_finetune/runs/{run['dag_run_id'].replace('+', '%2B')}")
    # Airflow's menu has a link of this name, too, and has it before the run's tabs are drawn.
    page.locator("a[href$='plugin/nightshift-run']").click()
    frame = page.frame_locator("iframe")
    expect(frame.locator("body")).to_contain_text("train")
    expect(frame.locator("body")).to_contain_text("tokens")


def test_a_report_opens_from_the_dashboard_and_cannot_act_as_its_reader(log_in):
    page = log_in("viewer")
    page.goto(f"/nightshift/apps/{APPLICATION}")
    page.get_by_role("link", name=re.compile("Evidently")).first.click()
    frame = page.frame_locator("iframe")
    expect(frame.locator("body")).to_contain_text("2026-11-07")
    inside = page.frames[1]
    with pytest.raises(Exception, match=r"sandboxed|SecurityError|[Cc]ookie"):
        inside.evaluate("document.cookie")


def test_a_form_refuses_a_bad_value_and_takes_a_good_one(log_in, place):
    dag = f"{APPLICATION}_retraining"
    with operator(place) as api:
        api.unpause(dag)
        before = len(api.runs(dag))
    page = log_in("operator")
    page.goto(f"/dags/{dag}")
    page.get_by_role("button", name="Trigger Dag").click()
    form = page.get_by_role("dialog")
    days, reason = form.locator("[name=element_days]"), form.locator("[name=element_reason]")
    form.locator("input[name=element_action]").locator("xpath=..").get_by_role("combobox").click()
    page.get_by_role("option", name="snooze").click()
    trigger = form.get_by_role("button", name="Trigger", exact=True)
    expect(trigger).to_be_disabled()
    days.fill("200")
    days.press("Tab")
    expect(days).to_have_value("90")  # the most that there is
    reason.fill("   ")
    reason.press("Tab")
    trigger.click()
    expect(page.get_by_text("Failed to Trigger Dag")).to_be_visible()
    with operator(place) as api:
        assert len(api.runs(dag)) == before, "a snooze without a reason was started"
    days.fill("2")
    reason.fill("the new tariff is announced next week")
    reason.press("Tab")
    trigger.click()
    with operator(place) as api:
        wait_for(lambda: len(api.runs(dag)) == before + 1, "the run of the form")
        run = api.runs(dag)[0]["dag_run_id"]
        wait_for(lambda: api.result(dag, run, "step_in").get("reason"), "what came of it")
        assert "operator snoozed retraining" in api.result(dag, run, "step_in")["reason"]
    page.goto(f"/nightshift/apps/{APPLICATION}")
    expect(page.get_by_role("main")).to_contain_text("the new tariff is announced next week")


@pytest.mark.parametrize(("answer", "champion"), [("Reject", "2"), ("Approve", "1")])
def test_an_approver_answers_a_release_in_the_browser_and_the_answer_is_kept(log_in, place, answer, champion):
    """The earlier champion is put to people: it comes back only when one of them says so."""
    run, why = f"ask-{answer.lower()}", f"{answer} because the branch asked"
    with operator(place) as api:
        api.trigger(RELEASE, run, {"version": 1, "ask": True, "reason": "compare with the first champion"})
        wait_for(lambda: state(api, run, "approve") == "awaiting_input", "the request", 180)
    page = log_in("approver")
    page.goto(f"/nightshift/apps/{APPLICATION}")
    expect(page.get_by_role("main")).to_contain_text("release version 1 in place of version 2")
    page.goto(f"/dags/{RELEASE}/runs/{run}/tasks/approve/required_actions")
    expect(page.locator("body")).to_contain_text("Candidate against base")
    expect(page.locator("body")).to_contain_text("Answers side by side")
    field = page.locator("[name=element_why]")
    expect(field).to_have_value("")  # not the words of who asks
    field.fill(why)
    page.get_by_role("button", name=answer, exact=True).click()
    with operator(place) as api:
        wait_for(lambda: state(api, run, "promote") in {"success", "skipped"}, "the consequence", 180)
    ledger = Ledger(place.storage, APPLICATION)
    asked = next(request for request in ledger.requests().values() if request.run_id == run)
    said = ledger.answers({asked.id: asked})[asked.id]
    assert (said.answer, said.by, said.reason) == ("approved" if answer == "Approve" else "rejected", "approver", why)
    assert ledger.releases()[-1].version == champion
    page.goto(f"/nightshift/apps/{APPLICATION}")
    expect(page.get_by_role("main")).to_contain_text(why)


def state(api, run, task):
    return next((found["state"] for found in api.tasks(RELEASE, run) if found["task_id"] == task), None)


def wait_for(reached, what, seconds=120):
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds} s"
        time.sleep(1)
