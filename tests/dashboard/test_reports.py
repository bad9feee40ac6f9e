"""Reports of jobs: shown in a page of ours, served in an origin of nobody's, and nothing else of storage is."""

import re
from itertools import product

import pytest
from stored_application import LAST, PAGE

ELSEWHERE = (
    "drift/2026-11-27/{address}/verdict.json",
    "drift/2026-11-27/{address}/manifest.json",
    "drift/2026-11-27/{address}/other.html",
    "drift/2026-11-27/0123456789abcdef/report.html",
    "drift/2026-11-27/report.html",
    "drift/2026-11-27/{address}/x/report.html",
    "drift/..%2F..%2F..%2Fsecret/x/secret.html",
    "drift/2026-11-27/../../../secret.html",
    "data_docs/..%2F..%2Fdrift/x/secret.html",
    "data_docs/../secret.html",
    "data_docs/x/..%2F..%2F..%2Fsecret.html",
    "..%2F..%2Fsecret/x/y/secret.html",
    "models/x/report.html",
    "ledger/releases/report.html",
)


@pytest.fixture
def report(applications, visit):
    """The paths of a drift report: the page of ours, and what it frames."""
    app = applications("helper")
    app.champion()
    app.drift(LAST, "FAIL", excess=0.6)
    framed = re.search(r'href="/nightshift(/apps/helper/reports/drift/[^"]+)"', visit("/apps/helper").text)[1]
    return framed, framed.replace("/reports/", "/raw/")


def test_a_report_is_framed_without_any_right(visit, report):
    page = visit(report[0]).text
    assert f'<iframe class="frame" sandbox="allow-scripts" title="The report" src="/nightshift{report[1]}"' in page
    assert 'href="/nightshift/apps/helper"' in page


def test_a_report_comes_as_it_was_published_and_can_do_nothing_as_the_user(visit, report):
    answer = visit(report[1])
    assert answer.text == PAGE
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts;")
    assert "allow-same-origin" not in policy
    assert "connect-src" not in policy  # so it is that of default-src: none
    assert "default-src 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"


def test_nothing_else_in_storage_or_beside_it_can_be_asked_for(visit, report, tmp_path):
    (tmp_path / "secret.html").write_text("SECRET")
    (tmp_path / "storage" / "secret.html").write_text("SECRET")
    address = report[0].split("/")[-2]
    for wanted, way in product(ELSEWHERE, ("reports", "raw")):
        answer = visit(f"/apps/helper/{way}/{wanted.format(address=address)}")
        assert answer.status_code == 404, wanted
        assert "SECRET" not in answer.text


def test_a_manifest_that_lists_a_file_elsewhere_opens_nothing(visit, report, tmp_path):
    (tmp_path / "storage" / "secret.html").write_text("SECRET")
    manifest = next((tmp_path / "storage" / "helper" / "drift").rglob("manifest.json"))
    for path in ("../../../../secret.html", "x/../../../../secret.html", str(tmp_path / "storage" / "secret.html")):
        manifest.write_text(re.sub(r'"path": "[^"]*report\.html"', f'"path": "{path}"', manifest.read_text()))
        answer = visit(report[1])
        assert answer.status_code == 404
        assert "SECRET" not in answer.text


def test_data_docs_are_served_from_their_folder(visit, report, tmp_path):
    folder = tmp_path / "storage" / "helper" / "data_docs" / "2026-11-27" / "0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text("DOCS OF A NIGHT")
    assert "Data docs of 2026-11-27" in visit("/apps/helper").text
    answer = visit("/apps/helper/raw/data_docs/2026-11-27/0123456789abcdef/index.html")
    assert answer.text == "DOCS OF A NIGHT"
    assert answer.headers["content-security-policy"].startswith("sandbox")


def test_a_manifest_that_cannot_be_read_is_said_in_words(visit, report, tmp_path):
    next((tmp_path / "storage" / "helper" / "drift").rglob("manifest.json")).write_text("{")
    answer = visit(report[1])
    assert answer.status_code == 503
    assert "manifest.json cannot be read" in answer.text
