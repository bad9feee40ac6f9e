"""The documents sample that ships with the package is what docs/documents-sample.md says it is."""

import csv
import importlib.util
import json
from pathlib import Path

import pytest

from nightshift.settings.project import PACKAGE

FOLDER = PACKAGE / "samples" / "documents"
SCRIPT = Path(__file__).parents[2] / "scripts" / "build_documents_sample.py"
FIRST, SECOND, THIRD = "2026-11-02", "2026-11-03", "2026-11-04"


def documents(name):
    lines = (FOLDER / "arrivals" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["key"]: row["text"] for row in map(json.loads, lines)}


@pytest.fixture(scope="module")
def days():
    def rows(path):
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return {path.stem: rows(path) for path in sorted((FOLDER / "questions").glob("*.csv"))}


def test_every_paragraph_is_a_document_in_the_end_and_every_question_is_asked_once(days):
    last = documents(f"{FIRST}/lasting") | documents(f"{THIRD}/revised") | documents(f"{THIRD}/added")
    assert len(last) == 240
    assert list(days) == [FIRST, SECOND, THIRD]
    asked = [row["question_id"] for rows in days.values() for row in rows]
    assert len(asked) == len(set(asked)) == 1190


def test_what_is_asked_on_the_first_day_is_answered_by_the_documents_of_that_day(days):
    first = documents(f"{FIRST}/lasting") | documents(f"{FIRST}/revised")
    for row in days[FIRST]:
        document = first[row["document"].removeprefix("articles/")]
        # An answer may go on where the first half of a paragraph ends.
        assert row["answer"] in document or document.endswith(row["answer"][:20]), row


def test_later_days_ask_about_articles_that_arrive_on_the_third_day(days):
    added = {f"articles/{key}" for key in documents(f"{THIRD}/added")}
    shares = [sum(row["document"] in added for row in days[day]) / len(days[day]) for day in days]
    assert shares[0] == 0
    assert all(0.6 < share < 0.85 for share in shares[1:])


def test_a_revised_document_goes_on_where_it_ended(days):
    before, after = documents(f"{FIRST}/revised"), documents(f"{THIRD}/revised")
    assert before.keys() == after.keys()
    assert len(before) == 40
    assert all(after[key].startswith(text) for key, text in before.items())


def test_the_script_cuts_what_arrives_later_and_asks_about_it_later(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("build_documents_sample", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "TARGET", tmp_path)
    # The published file is not in the repository: one of its shape is made anew.
    text = "Warsaw is on the Vistula. Its emblem is a mermaid. Its university is of 1816. It has 18 districts."
    questions = [("a", "Which river?", "the Vistula"), ("b", "Which year?", "1816")]
    qas = [
        {"id": name, "question": asked, "answers": [{"answer_start": text.index(span), "text": span}]}
        for name, asked, span in questions
    ]
    articles = [{"title": f"Place_{n}", "paragraphs": [{"context": text, "qas": qas}]} for n in range(2)]
    (tmp_path / "xquad.json").write_text(json.dumps({"data": articles}))
    script.main(tmp_path / "xquad.json")

    def lines(name):
        return (tmp_path / name).read_text(encoding="utf-8").splitlines()

    assert [json.loads(line)["text"] for line in lines(f"arrivals/{FIRST}/revised.jsonl")] == [
        "Warsaw is on the Vistula. Its emblem is a mermaid."
    ]
    assert [json.loads(line)["key"] for line in lines(f"arrivals/{THIRD}/added.jsonl")] == ["place-1-1"]
    assert lines(f"questions/{FIRST}.csv")[1].startswith("a,")
    asked = lines(f"questions/{SECOND}.csv")[1:] + lines(f"questions/{THIRD}.csv")[1:]
    assert sum("Its university is of 1816." in row for row in asked) == 2
