"""What people read: what, where, since when, how bad, what to do, with links; and hostile text that stays text."""

from datetime import UTC, datetime
from html.parser import HTMLParser

from markdown_it import MarkdownIt
from told import drift

from nightshift.alerts.message import compose
from nightshift.settings.people import Severity

HOSTILE = (
    '<script>alert(1)</script> "><img src=x onerror=alert(1)> [click](javascript:alert(1)) *bold* \u202egnp.exe\x1b[31m'
)
FULL = {
    "where": "bank, DAG bank_nightly_drift, run r1, task drift",
    "facts": ["topics: 0.31, 0.20 is FAIL"],
    "since": datetime(2026, 11, 18, 5, tzinfo=UTC),
    "todo": "read the report",
    "links": {"Task log": "https://airflow.example.org/dags/d?a=1&b=2"},
}


class Elements(HTMLParser):
    """Every element of a page with its attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_all_forms_say_what_where_since_when_how_bad_and_what_to_do():
    message = compose([drift(**FULL)], "route")
    for form in (message.text, Elements(message.html).text, message.markdown.replace("\\", "")):
        for said in (
            "drift in the interval 2026-11-20",
            "bank_nightly_drift",
            "2026-11-18 05:00 UTC",
            "0.31",
            "read the",
        ):
            assert said in form
    assert "https://airflow.example.org/dags/d?a=1&b=2" in message.text
    assert ("a", {"href": "https://airflow.example.org/dags/d?a=1&b=2"}) in Elements(message.html).found
    assert message.subject == "[bank] WARNING: drift in the interval 2026-11-20"


def test_the_subject_names_the_worst_and_counts_the_others():
    message = compose([drift(), drift(kind="bias", severity=Severity.CRITICAL, title="bias")], "route")
    assert message.subject == "[bank] CRITICAL: bias (and 1 more)"
    assert compose([drift(good=True, title="over")], "route").subject == "[bank] recovered: over"
    answered = compose([drift(kind="approval_waits", good=True, title="approved by ada")], "route")
    assert answered.subject == "[bank] answered: approved by ada"
    assert answered.text.startswith("ANSWERED: ")


def hostile_message():
    fields = {"title": HOSTILE, "where": HOSTILE, "facts": [HOSTILE], "todo": HOSTILE, "night": HOSTILE}
    links = {HOSTILE: "https://example.org/\"onmouseover=alert(1)'>", "run": "javascript:alert(1)"}
    return compose([drift(**fields, links=links)], "route")


def test_hostile_text_is_only_text_in_html():
    page = Elements(hostile_message().html)
    assert {tag for tag, _ in page.found} == {
        "html", "head", "meta", "title", "style", "body", "main", "article", "h2", "span", "table", "tr", "th", "td", "ul",
        "li", "a", "footer",
    }  # fmt: skip
    assert [name for _, attributes in page.found for name in attributes if name.startswith("on")] == []
    assert [attributes["href"][:8] for tag, attributes in page.found if tag == "a"] == ["https://"]
    assert "<script>alert(1)</script>" in page.text


def test_hostile_text_is_only_text_in_markdown():
    html = MarkdownIt().render(hostile_message().markdown)
    page = Elements(html)
    assert {tag for tag, _ in page.found} <= {"p", "strong", "ul", "li", "a"}
    assert [attributes["href"][:8] for tag, attributes in page.found if tag == "a"] == ["https://"]
    assert "*bold*" in page.text


def test_no_control_character_reaches_a_terminal_or_a_header():
    message = hostile_message()
    for form in (message.text, message.markdown, message.subject):
        assert "\x1b" not in form
        assert "\u202e" not in form
        assert "⟨U+202E⟩" in form.replace("\\", "")
    assert "\n" not in message.subject


def test_a_message_about_hundreds_of_alerts_stays_readable():
    message = compose([drift(cause=str(number), facts=["x" * 5000] * 50) for number in range(300)], "route")
    assert "And 275 more alerts" in message.text
    assert len(message.html) < 200_000
    assert len(message.alerts) == 300
