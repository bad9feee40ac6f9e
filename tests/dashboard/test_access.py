"""Who is let in, what they see, and that nobody else's page, script or address gets in."""

import re
from itertools import product
from pathlib import Path

import pytest
from stored_application import LAST

import nightshift.dashboard

STATIC = Path(nightshift.dashboard.__file__).parent / "static"
PAGES = ("/", "/apps/seen", "/mailbox", "/dags/seen_ingest", "/apps/seen/runs/seen_ingest/x", "/nothing")


@pytest.fixture
def two(applications):
    """Two applications; `newcomer` may read the DAGs of `seen` alone."""
    seen, other = applications("seen"), applications("other")
    for app in (seen, other):
        app.champion()
        app.interactions(LAST)
    return seen, other


def test_who_is_not_logged_in_is_sent_to_airflows_login_and_back(visit, two):
    for path in PAGES:
        answer = visit(path, user=None)
        assert answer.status_code == 303
        assert answer.headers["location"].endswith(f"/api/v2/auth/login?next=%2Fnightshift{path.replace('/', '%2F')}")
        assert visit(path, user=None, Accept="application/json").status_code == 401


def test_nothing_can_be_changed(visit, two):
    for path, method in product(PAGES, ("POST", "PUT", "PATCH", "DELETE")):
        assert visit(path, user="admin", method=method).status_code == 405, (path, method)


def test_a_head_is_answered_as_a_get(visit, two):
    assert [visit(path, method="HEAD").status_code for path in ("/", "/apps/seen", "/mailbox")] == [200] * 3


def test_a_user_sees_the_applications_whose_dags_they_may_read(visit, two):
    assert "/apps/other" in visit("/").text
    assert "/apps/other" not in visit("/", user="newcomer").text
    assert visit("/apps/seen", user="newcomer").status_code == 200


def test_what_a_user_may_not_see_answers_like_what_does_not_exist(visit, two):
    for path in (
        "/apps/{}", "/apps/{}/runs/{}_ingest/x", "/apps/{}/reports/evaluations/0123456789abcdef/report.html",
        "/apps/{}/raw/evaluations/0123456789abcdef/report.html", "/mailbox/{}/x", "/mailbox/{}/x/html",
        "/mailbox?application={}", "/dags/{}_ingest", "/dags/{}_ingest/runs/x",
    ):  # fmt: skip
        hidden = visit(path.replace("{}", "other"), user="newcomer")
        absent = visit(path.replace("{}", "absent"), user="newcomer")
        assert hidden.status_code == absent.status_code == 404
        body = [re.search(r"<main.*</main>", page.text, re.S)[0] for page in (hidden, absent)]
        assert body[0].replace("other", "absent") == body[1]


def test_the_tab_of_a_dag_that_belongs_to_no_application_says_so(visit, two):
    answer = visit("/dags/housekeeping")
    assert "“housekeeping” belongs to no Nightshift application that you may see." in answer.text
    hidden = visit("/dags/other_ingest", user="newcomer")
    assert "“other_ingest” belongs to no Nightshift application that you may see." in hidden.text
    assert visit("/dags/seen_ingest").headers["location"] == "/nightshift/apps/seen"


def test_the_tab_of_a_run_keeps_its_id_whole(visit, two):
    answer = visit("/dags/seen_ingest/runs/manual__2026-11-28T10%3A00%3A00%2B00%3A00")
    assert answer.headers["location"].endswith("/apps/seen/runs/seen_ingest/manual__2026-11-28T10%3A00%3A00%2B00%3A00")


def test_who_may_not_see_runs_is_told_so_in_words(visit, two):
    page = visit("/apps/seen", user="newcomer").text
    assert "You may not see the runs of this application." in page
    gone = visit("/apps/seen/runs/seen_ingest/x", user="newcomer")
    assert gone.status_code == 404
    assert "There is no run “x” of seen_ingest, or you may not see it." in gone.text


def test_every_answer_has_the_headers_that_keep_others_out(visit, two):
    for path, user in product((*PAGES, "/static/dashboard.css"), ("viewer", None)):
        headers = visit(path, user=user).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "style-src 'self';" in policy
        assert "frame-ancestors 'self'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == ("no-cache" if "static" in path else "no-store")


def test_scripts_and_styles_are_kept_only_under_an_address_that_names_what_they_are(visit, two):
    addresses = re.findall(r'/nightshift(/static/[^"]+)', visit("/apps/seen").text)
    assert "/static/dashboard.js" in {address.partition("?")[0] for address in addresses}
    for address in addresses:
        assert re.search(r"\?v=[0-9a-f]{12}$", address)
        assert "max-age=31536000" in visit(address, user=None).headers["cache-control"]
    assert visit("/static/gone.js?v=1").headers["cache-control"] == "no-store"


def test_a_fault_of_ours_is_a_sentence_with_the_same_headers(visit, two, monkeypatch):
    monkeypatch.setattr("nightshift.dashboard.app.gather", lambda *_, **__: 1 / 0)
    answer = visit("/apps/seen")
    assert answer.status_code == 500
    assert "This page cannot be shown (ZeroDivisionError)." in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert "script-src 'self'" in answer.headers["content-security-policy"]


def test_pages_hold_no_script_and_no_style_of_their_own(visit, two):
    for path in ("/", "/apps/seen", "/mailbox"):
        page = visit(path).text
        assert not re.search(r"<script(?![^>]*\bsrc=)", page)
        assert not re.search(r"\sstyle=|\son\w+=|<style", page)


def test_the_keyboard_reaches_every_wide_table_and_each_has_a_name(visit, two):
    page = visit("/apps/seen").text
    assert page.count('class="scroll" tabindex="0" role="region" aria-label="') == page.count('class="scroll"') > 2


def test_nothing_is_loaded_from_elsewhere(visit, two):
    for path in ("/", "/apps/seen", "/mailbox"):
        sources = re.findall(r"(?:src|href)=\"([^\"]*)\"", re.search(r"<head>.*</head>", visit(path).text, re.S)[0])
        assert sources
        assert all(source.startswith("/nightshift/static/") for source in sources)
    for file in STATIC.iterdir():
        assert not re.search(rb"@import|url\(\s*['\"]?http|(?:src|href)=['\"]?http", file.read_bytes())


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_and_verdicts_can_be_told_from_what_is_behind_them(theme):
    css = (STATIC / "dashboard.css").read_text()
    block = re.search(r":root \{(.*?)\}" if theme == "light" else r':root\[data-theme="dark"\] \{(.*?)\}', css, re.S)[1]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", block))
    pairs = [("text", "page"), ("text", "panel"), ("muted", "page"), ("muted", "panel"), ("accent", "page"), ("accent", "panel"),
             ("text", "cell"), *((f"on-{one}", one) for one in ("pass", "warn", "fail", "none", "info"))]  # fmt: skip
    for front, back in pairs:
        assert contrast(colours[front], colours[back]) >= 4.5, (front, back)
    assert contrast(colours["fail-line"], colours["panel"]) >= 3
    assert contrast(colours["warn-line"], colours["panel"]) >= 3


def test_the_two_dark_palettes_are_one():
    palettes = re.findall(r"color-scheme: dark;\n(.*?)\}", (STATIC / "dashboard.css").read_text(), re.S)
    assert len({" ".join(one.split()) for one in palettes}) == 1
    assert len(palettes) == 2


def contrast(one, other):
    """WCAG 2.2's contrast ratio of two colours."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
