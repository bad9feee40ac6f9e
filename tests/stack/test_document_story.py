"""The story of the documents sample: what arrives, and what is said of the questions that no document answers."""

import json
from pathlib import Path

from upath import UPath

from nightshift.settings.applications import read_application
from nightshift.settings.project import PROJECT_VARIABLE
from nightshift.stack.document_story import APPLICATION, FIRST, THIRD, gaps_summary, judged_summary, search_summary
from nightshift.stack.samples import DOCUMENTS, FOLDERS, copy, variables_of
from nightshift.storage.files import scratch
from nightshift.storage.partition import partition_of, publish


def test_the_documents_of_a_later_day_take_the_place_of_those_of_before(tmp_path: Path) -> None:
    variables = variables_of(DOCUMENTS, {"NIGHTSHIFT_HOME": str(tmp_path)})
    project = Path(variables[PROJECT_VARIABLE])
    application = read_application(project / "apps" / f"{APPLICATION}.yaml")
    assert application.retrieval is not None

    def keys() -> list[str]:
        lines = [line for file in (project / "documents").glob("*.jsonl") for line in file.read_text().splitlines()]
        return [json.loads(line)["key"] for line in lines]

    copy(FOLDERS / DOCUMENTS / "arrivals" / FIRST, project / "documents")
    assert len(keys()) == len(set(keys())) == 120
    before = (project / "documents" / "revised.jsonl").read_text()
    copy(FOLDERS / DOCUMENTS / "arrivals" / THIRD, project / "documents")
    assert len(keys()) == len(set(keys())) == 240
    assert (project / "documents" / "revised.jsonl").read_text() != before
    assert not list(project.rglob("*.part"))


def test_each_night_shows_its_least_answered_questions_from_its_report(tmp_path: Path) -> None:
    heading = "0% of the questions found no passage. With these, the best passage of 61% has a relevance below 0.41."
    gaps = [{"prompt": f"Where is place {number}?", "relevance": f"0.1{number}"} for number in range(5)]
    folder = scratch(UPath(tmp_path))
    (folder / "report.json").write_text(json.dumps({"gaps": gaps, "gaps_heading": heading}))
    partition = partition_of(str(tmp_path), APPLICATION, "drift", "2026-11-03")
    publish(partition, folder, kind="drift", application=APPLICATION, inputs={"planted": 1})
    nights = {"2026-11-03": {"score": {"rows": 81}}, "2026-11-04": {"score": {}}}
    verdicts = {"2026-11-03": {"verdict": "FAIL", "report": str(partition)}, "2026-11-04": {}}

    assert [line.strip() for line in gaps_summary(nights, verdicts).splitlines()] == [
        "2026-11-03   81 questions · drift FAIL",
        heading,
        "0.10  Where is place 0?",
        "0.11  Where is place 1?",
        "0.12  Where is place 2?",
        "2026-11-04   ? questions · drift ?",
    ]


def test_versions_are_shown_side_by_side_with_intervals() -> None:
    def score(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.1, "high": value + 0.1}

    scores = {"champion": {"retrieval_recall": score(0.4)}, "candidate": {"retrieval_recall": score(0.9)}}
    said = judged_summary(
        {"evaluate": {"scores": scores, "examples": 120}, "register": {"version": "2", "verdict": "PASS"}}
    )
    assert said.splitlines()[0].split("  ")[-1].strip() == (
        "champion 40.0% [30.0%, 50.0%] · candidate 90.0% [80.0%, 100.0%]"
    )
    assert "on 120 held-out questions" in said
    assert "version 2: PASS" in said


def test_a_search_says_what_it_found_and_whether_the_winner_was_released() -> None:
    nothing = {"search_result": {"better": False, "reasons": ["nothing better than today"]}, "register": {}}
    assert search_summary(nothing, {}) == "  nothing better than today"
    better = {"search_result": {"better": True, "reasons": ["6 points better"]}, "register": {"version": "3"}}
    held = {"release": {"version": "3", "released": False, "verdict": "WARN", "reasons": ["its answers are no better"]}}
    assert search_summary(better, held).splitlines() == [
        "  6 points better",
        "  version 3 is held back, gate and shadow say WARN:",
        "    its answers are no better",
    ]
