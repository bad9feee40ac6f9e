"""The pages in a real browser, served by Airflow's own API server, alone and in Airflow's frame."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from hostile import RUN
from stored_application import LAST, StoredApplication

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
APP = """\
description: "<b onmouseover='window.harm = 4'>Answers</b> questions."
schedule: null
sources:
  - uri: /data/{start:%Y-%m-%d}.jsonl
    columns: {prompt: question, answer: reply}
"""
WAIT_MILLISECONDS = 120_000


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Address of an API server with one application, the passwords by user, and the storage."""
    place = tmp_path_factory.mktemp("browsed")
    (place / "apps").mkdir()
    (place / "apps" / "helper.yaml").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    settings = {
        "CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": "viewer:viewer,operator:op",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(place / "passwords.json"),
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{place}/airflow.db",
        "API__BASE_URL": url,
        "API__PORT": str(port),
        "API__HOST": "127.0.0.1",
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": "secret-of-the-tests" * 4,
    }
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")},
        **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        "AIRFLOW_HOME": str(place / "airflow"),
        "AIRFLOW_CONN_NIGHTSHIFT_MLFLOW": "http://127.0.0.1:1",
        "AIRFLOW_VAR_NIGHTSHIFT_STORAGE": (place / "storage").as_uri(),
        "NIGHTSHIFT_PROJECT": str(place),
        "PYTHONPATH": f"{HERE}:{ROOT / 'include'}",
    }
    made = subprocess.run(
        [sys.executable, HERE / "make_browsed.py"], env=environment, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr[-3000:]
    log = (place / "server.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "airflow", "api-server"],
        env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        wait_for(url, server, place / "server.log")
        yield url, json.loads((place / "passwords.json").read_text()), (place / "storage").as_uri()
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture(scope="module")
def logins(served, chromium):
    """What a browser keeps of each user who came to the dashboard first and was sent to the login."""
    url, passwords, _ = served
    return {user: logged_in(chromium, url, user, password) for user, password in passwords.items()}


def logged_in(chromium, url, user, password):
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{url}/nightshift/apps/helper?from=mail", timeout=WAIT_MILLISECONDS)
    page.fill("input[name=username]", user)
    page.fill("input[type=password]", password)
    page.keyboard.press("Enter")
    page.wait_for_url("**/nightshift/apps/helper?from=mail", timeout=WAIT_MILLISECONDS)
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def stored(served):
    """What the application has in storage."""
    return StoredApplication(served[2], "helper")


@pytest.fixture
def opened(served, chromium, logins):
    """A function that opens a path as a user; every error on the page's console fails the test."""
    contexts, errors = [], []

    def open_page(path, user="viewer", **options):
        context = chromium.new_context(storage_state=logins[user], **options)
        context.set_default_timeout(WAIT_MILLISECONDS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.goto(f"{served[0]}{path}", timeout=WAIT_MILLISECONDS)
        return page

    open_page.errors = errors
    yield open_page
    for context in contexts:
        context.close()


WIDER = """[...document.querySelectorAll("main *")].filter(one => one.getBoundingClientRect().right > 320)
  .filter(one => !one.closest(".scroll > *")).map(one => one.outerHTML.slice(0, 120))"""
PAGES = ("/", "/apps/helper", f"/apps/helper/runs/helper_finetune/{RUN.replace('+', '%2B')}", "/mailbox")


def test_hostile_text_shows_as_text(opened):
    for path in PAGES:
        page = opened(f"/nightshift{path}")
        page.wait_for_timeout(300)
        assert page.evaluate("window.harm") is None
        assert page.locator("main img, main svg, main script, main b").count() == 0
    page = opened("/nightshift/apps/helper")
    text = page.locator("main").inner_text()
    assert "<script>window.harm = 1</script><img src=x onerror='window.harm = 2'>" in text
    assert "{{ 7 * 7 }} ⟨U+202E⟩reversed ⟨U+001B⟩[31m" in text
    assert "<b onmouseover='window.harm = 4'>Answers</b> questions." in text
    assert not opened.errors


def test_hostile_messages_show_as_text_in_both_their_forms(opened):
    page = opened("/nightshift/mailbox")
    page.locator("#messages ~ div a").nth(1).click()
    page.wait_for_selector("iframe")
    assert "<script>window.harm = 1</script>" in page.locator("pre").inner_text()
    frame = page.frame_locator("iframe")
    assert "<script>window.harm = 1</script>" in frame.locator("body").inner_text()
    assert page.evaluate("window.harm") is None


def test_charts_are_drawn_from_tables_that_are_there_without_scripts(opened):
    page = opened("/nightshift/apps/helper")
    page.wait_for_selector("figure canvas")
    figures = page.locator("figure[data-chart]")
    assert figures.count() == 4
    for place in range(4):
        assert figures.nth(place).locator("canvas").count() == 1
        assert figures.nth(place).locator("details tbody tr").count() == 30
    assert page.locator("figure canvas").first.evaluate(
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(value => value > 0)"
    )
    assert not opened.errors
    bare = opened("/nightshift/apps/helper", java_script_enabled=False)
    assert (
        bare.locator("figure tbody tr").first.is_visible() or bare.locator("figure details summary").first.is_visible()
    )


DRAWN = """figure => {
  const texts = [];
  const write = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
    const width = this.measureText(text).width;
    const left = { right: x - width, center: x - width / 2 }[this.textAlign] ?? x;
    texts.push({ text, left, right: left + width, canvas: this.canvas.width });
    write.call(this, text, x, y);
  };
  draw(figure);
  return new Promise(done => requestAnimationFrame(() => {
    CanvasRenderingContext2D.prototype.fillText = write;
    done(texts);
  }));
}"""


def test_a_chart_of_one_night_shows_its_value_and_its_day(opened):
    page = opened("/nightshift/apps/helper")
    page.wait_for_selector("#trend canvas")
    figure = page.locator("#trend figure").nth(1)  # the mean quality
    figure.evaluate("figure => [...figure.querySelectorAll('details tbody tr')].slice(1).forEach(row => row.remove())")
    texts = [one["text"] for one in figure.evaluate(DRAWN)]
    day = figure.locator("details tbody th").first.text_content()
    assert day[5:] in texts
    assert day in figure.locator(".u-legend").inner_text()
    accent = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--accent')")
    assert figure.locator("canvas").evaluate(
        """(canvas, accent) => {
          const [red, green, blue] = [1, 3, 5].map(at => parseInt(accent.trim().slice(at, at + 2), 16));
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          for (let at = 0; at < data.length; at += 4)
            if (data[at] === red && data[at + 1] === green && data[at + 2] === blue && data[at + 3] === 255) return true;
          return false;
        }""",
        accent,
    )
    assert not opened.errors


def test_the_name_of_a_new_version_is_whole_wherever_it_begins(opened):
    page = opened("/nightshift/apps/helper")
    page.wait_for_selector("#trend canvas")
    figure = page.locator("#trend figure").first
    for place in (0, 15, 29):
        figure.locator("details tbody tr").nth(place).evaluate(f"row => {{ row.dataset.mark = 'version {place}'; }}")
    marks = {one["text"]: one for one in figure.evaluate(DRAWN) if one["text"].startswith("version")}
    assert {*marks} >= {"version 0", "version 15", "version 29"}
    assert all(one["left"] >= 0 and one["right"] <= one["canvas"] for one in marks.values()), marks


def test_pages_fit_a_phone_and_a_keyboard(opened):
    for path in PAGES:
        page = opened(f"/nightshift{path}", viewport={"width": 320, "height": 640})
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, (path, page.evaluate(WIDER))
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        assert page.locator("h1").count() == 1
        assert page.locator("main").count() == 1


def test_a_report_runs_its_scripts_in_an_origin_of_nobodys(opened):
    page = opened("/nightshift/apps/helper")
    page.get_by_role("link", name="Report with Evidently's page").click()
    said = page.frame_locator("iframe").locator("#said")
    said.filter(has_text="network").wait_for()
    assert said.inner_text() == "cookie refused, store refused, parent refused, network refused"
    alone = opened(page.frames[-1].url.partition("://")[2].partition("/")[2].join(["/", ""]))
    alone.locator("#said").filter(has_text="network").wait_for()
    said = alone.locator("#said").inner_text()
    assert said == "cookie refused, store refused, parent report, network refused"  # it is its own parent


def test_what_changed_is_renewed_in_every_part_and_a_failure_to_is_said(opened, stored):
    page = opened("/nightshift/apps/helper")
    page.wait_for_selector("#trend canvas")
    page.evaluate("window.before = document.querySelector('#trend canvas'); renew()")
    assert page.evaluate("before.isConnected")  # what did not change is not drawn again
    page.evaluate("document.querySelector('#trend figure').plot.hooks.destroy = [() => { window.destroyed = true; }]")
    stored.drift(LAST + timedelta(days=1), "FAIL", excess=0.9, reason="more than before")
    page.evaluate("renew()")
    for part in ("#drift", "#trend"):
        assert "2026-11-28" in page.locator(part).text_content()
    assert "more than before" in page.locator("#head").inner_text()
    assert page.locator("#trend figure").first.locator("canvas").count() == 1
    assert page.evaluate("destroyed")  # else a page that stays open grows
    assert not opened.errors
    page.route("**/apps/helper", lambda route: route.abort())
    page.evaluate("renew()")
    assert "not renewed since" in page.locator(".where").inner_text()
    page.unroute("**/apps/helper")
    page.evaluate("renew()")
    assert "not renewed since" not in page.locator(".where").inner_text()


def test_an_operator_silences_an_alert_from_the_page_and_airflow_knows_who(opened, served):
    page = opened("/nightshift/apps/helper", user="operator")
    page.get_by_text("Acknowledge or silence").click()
    page.select_option("select[name=action]", "silence")
    page.fill("input[name=reason]", "known; <b>ours</b>")
    page.get_by_role("button", name="Ask Airflow to do it").click()
    page.locator("form.answer output", has_text="Airflow does it now").wait_for()
    (run,) = page.request.get(f"{served[0]}/api/v2/dags/helper_acknowledge/dagRuns").json()["dag_runs"]
    assert run["triggering_user_name"] == "operator"
    assert run["conf"] == {"alert": "drift", "action": "silence", "hours": 8, "reason": "known; <b>ours</b>"}
    assert not opened.errors
    # What Airflow does not take is said.
    page.evaluate("document.querySelector('form.answer button').disabled = false")
    page.evaluate("document.querySelector('[name=alert]').value = ''")
    page.get_by_role("button", name="Ask Airflow to do it").click()
    page.locator("form.answer output", has_text="Airflow refused it (400)").wait_for()
    assert opened("/nightshift/apps/helper").locator("form.answer").count() == 0


def test_airflow_shows_the_dashboard_in_its_menu_and_on_dags_and_runs(opened, served):
    page = opened("/")
    page.get_by_role("link", name="Nightshift").first.click()
    frame = page.frame_locator("iframe")
    frame.get_by_role("link", name="helper", exact=True).first.click()
    frame.locator("h1", has_text="helper").wait_for()
    page.wait_for_url("**/plugin/nightshift/nightshift/apps/helper")
    frame.get_by_role("link", name="nightly drift").click()  # out of the frame, which lets no link out
    page.wait_for_url("**/dags/helper_nightly_drift")
    page.locator('a[href$="/plugin/nightshift-application"]').click()
    page.wait_for_url("**/dags/helper_nightly_drift/plugin/nightshift-application")
    page.frame_locator("iframe").locator("h1", has_text="helper").wait_for()
    page.goto(
        f"{served[0]}/dags/helper_finetune/runs/{RUN.replace(':', '%3A').replace('+', '%2B')}/plugin/nightshift-run"
    )
    page.frame_locator("iframe").locator("h1", has_text=RUN).wait_for()


def test_the_theme_is_the_one_that_was_chosen_in_airflow(opened):
    page = opened("/nightshift/", color_scheme="light")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.evaluate("localStorage.setItem('theme', 'dark')")
    page.reload()
    dark = page.evaluate(colour)
    assert dark != light
    page.evaluate("localStorage.removeItem('theme')")
    page.reload()
    assert page.evaluate(colour) == light
    assert opened("/nightshift/", color_scheme="dark").evaluate(colour) == dark


def wait_for(url, server, log):
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            if httpx.get(f"{url}/api/v2/version", timeout=5, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            time.sleep(1)
    raise TimeoutError(log.read_text()[-3000:])
