"""The page of a night: our verdicts first, Evidently's pictures below, and nothing that a user wrote is more than text."""

import hashlib
import json
import random
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from nightshift.data.interactions import INTERACTION_SCHEMA
from nightshift.monitoring.drift_report import Compared, page_without_rows, report_of
from nightshift.monitoring.measured import measure
from nightshift.monitoring.references import Reference
from nightshift.monitoring.topics import Embedder, fit_topics
from nightshift.monitoring.verdicts import judge_interval
from nightshift.settings.application import Application
from nightshift.storage.manifest import Manifest
from nightshift.verdict import Verdict

pytestmark = pytest.mark.slow

APP = Application(name="app", sources=[{"uri": "x.csv", "columns": {"prompt": "text"}}])
ORDINARY = [f"where is my {thing} number {number}" for thing in ("card", "refund", "transfer") for number in range(200)]
random.Random(1).shuffle(ORDINARY)
LIBRARY = "<script>var global"  # where Evidently's own code begins
SCRIPT = "</script><script>alert('owned')</script><img src=x onerror=alert(1)>"
HOSTILE = [
    SCRIPT,
    "{{ 7 * 7 }} {% for x in y %} ${7*7} #{7*7}",
    "\x1b[31m\x1b]0;title\x07 red",
    "pay \u202e0001\u202c \u2066now",
    "x" * 1_000_000,
]


@pytest.fixture(scope="module")
def embedder():
    return Embedder()


def interactions(
    path, prompts, *, response="the answer", tier="basic", finish="stop", language="en", seed=0, judged=(None, None)
):
    chance = random.Random(seed)
    rows = [
        {
            "row": number,
            "digest": hashlib.sha256(prompt.encode()).hexdigest(),
            "metadata": [("tier", tier)],
            "prompt": prompt,
            "response": response,
            "model": "1",
            "model_digest": "m",
            "prompt_version": "p",
            "finish_reason": finish,
            "prompt_characters": len(prompt),
            "prompt_tokens": len(prompt.split()),
            "prompt_language": language,
            "response_characters": len(response),
            "response_tokens": 2,
            "response_language": language,
            "valid": 1.0,
            "refusal": chance.random(),
            "toxicity": 0.0,
            "sentiment": chance.random(),
            "pii": 0.0,
            "judge": judged[0],
            "judge_reason": judged[1],
        }
        for number, prompt in enumerate(prompts)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=INTERACTION_SCHEMA), path)
    return path


@pytest.fixture
def compare(tmp_path, embedder):
    """A function that judges a file of interactions against one of ordinary prompts."""
    topics = fit_topics(ORDINARY[::3], embedder)

    def compared(file):
        reference, night = (
            measure(path, topics, embedder, ["tier"], lambda *_: None)
            for path in (interactions(tmp_path / "reference.parquet", ORDINARY[1::3], seed=1), file)
        )
        manifest = Manifest(
            kind="reference", application="app", inputs={}, inputs_digest="", files=[], counts={"answers": 300},
            code_version="", created=datetime.now(UTC),
        )  # fmt: skip
        return Compared(
            application=APP,
            interval="2026-11-06",
            verdict=judge_interval(night.profile, reference.profile, APP.drift),
            profile=night.profile,
            sample=night.sample,
            novel=night.novel,
            reference=Reference(UPath("memory://r"), manifest, reference.profile, topics, reference.sample),
            model_version="3",
            trailing_intervals=0,
            places=[("interactions", "memory://x/<b>")],
        )

    return compared


class _Tags(HTMLParser):
    """The tags of our section and its text, as a browser reads them."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def section_of(html):
    start = html.index('<section id="nightshift">')
    read = _Tags()
    read.feed(html[start : html.index("</section>", start)])
    return read


def test_a_drifted_night_says_what_left_the_reference_and_shows_what_is_new(compare, tmp_path):
    new = [f"can I buy bitcoin for {number} euros" for number in range(150)]
    compared = compare(interactions(tmp_path / "night.parquet", ORDINARY[2::4] + new))
    report = report_of(compared)
    assert compared.verdict.verdict is Verdict.FAIL
    read = section_of(report.html)
    assert "Data drift: " in read.text
    assert f"app · interval 2026-11-06 · {compared.verdict.rows:,} interactions, compared with" in read.text
    assert "bitcoin" in read.text
    assert "prompts lie farther from every topic than 95% of the reference do (5% by chance)" in " ".join(
        read.text.split()
    )
    assert report.content["verdict"]["verdict"] == "FAIL"
    drawn = {metric["config"].get("column") for metric in report.content["evidently"]["metrics"]}
    assert {"prompt novelty", "prompt topic", "sentiment"} <= drawn
    assert "exact match" not in drawn  # neither side has one
    json.dumps(report.content)


def test_a_new_prompt_is_shown_with_what_the_judge_said_of_its_response(compare, tmp_path):
    new = [f"can I buy bitcoin for {number} euros" for number in range(30)]
    file = interactions(tmp_path / "night.parquet", ORDINARY[2::4] + new, judged=(0.25, f"It <b>guesses</b>. {SCRIPT}"))
    html = report_of(compare(file)).html
    assert "judge 0.25: It <b>guesses</b>." in section_of(html).text
    assert "<b>guesses" not in html


def test_interactions_of_before_reasons_were_kept_are_measured(compare, tmp_path):
    file = interactions(tmp_path / "night.parquet", ORDINARY[2::3], seed=2)
    pq.write_table(pq.read_table(file).drop_columns("judge_reason"), file)
    assert compare(file).sample["judge_reason"].null_count == compare(file).sample.num_rows > 0


def test_a_quiet_night_has_evidentlys_page_which_loads_nothing(compare, tmp_path):
    compared = compare(interactions(tmp_path / "night.parquet", ORDINARY[2::3], seed=2))
    html = report_of(compared).html
    assert compared.verdict.verdict is Verdict.PASS
    assert "metrics left the reference" in section_of(html).text
    assert "window.drawDashboard" in html
    assert "default-src 'none'" in html[: html.index("<style>")]
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)\s*=", html[: html.index(LIBRARY)])
    assert len(html) < 6_000_000


def test_hostile_prompts_and_responses_are_text(compare, tmp_path):
    file = interactions(
        tmp_path / "night.parquet", HOSTILE * 30, response=SCRIPT, tier=SCRIPT, finish=SCRIPT, language=SCRIPT
    )
    report = report_of(compare(file))
    assert "<script>alert" not in report.html
    assert "onerror=alert(1)>" not in report.html
    read = section_of(report.html)
    assert not {"script", "img"} & set(read.tags)
    assert "<script>alert('owned')" in read.text
    assert "{{ 7 * 7 }}" in read.text
    assert "⟨U+001B⟩[31m" in read.text
    assert "⟨U+202E⟩0001" in read.text
    assert not re.search("[\x00-\x08\x1b\u202a-\u202e\u2066-\u2069]", report.html[: report.html.index(LIBRARY)])
    assert "x" * 500 not in report.html[: report.html.index(LIBRARY)]
    assert len(json.dumps(report.content)) < 200_000
    assert len(read.text) < 60_000


def test_a_night_of_one_row_or_none_has_a_page(compare, tmp_path):
    for number, prompts in enumerate(([], ["where is my card"])):
        compared = compare(interactions(tmp_path / f"{number}.parquet", prompts))
        assert compared.verdict.verdict is Verdict.INSUFFICIENT_DATA
        assert "too little to compare" in section_of(report_of(compared).html).text


def test_a_night_that_did_not_arrive_has_a_page():
    html = page_without_rows(APP, "2026-11-06", Verdict.INSUFFICIENT_DATA, ["no interactions arrived", "look <there>"])
    read = section_of(html)
    assert "app · interval 2026-11-06 · 0 interactions\n" in read.text
    assert "no interactions arrived" in read.text
    assert "look <there>" in read.text
