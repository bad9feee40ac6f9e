"""The sample that ships with the package is what docs/sample.md says it is."""

import csv
import importlib.util
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from nightshift.settings.project import PACKAGE

DROPS = sorted((PACKAGE / "samples" / "banking77").glob("*.csv"))
SCRIPT = Path(__file__).parents[2] / "scripts" / "build_sample.py"


@pytest.fixture(scope="module")
def days():
    def rows(path):
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return {path.stem: rows(path) for path in DROPS}


def test_eight_days_hold_every_message_once(days):
    assert list(days) == [f"2026-11-{day:02}" for day in range(2, 10)]
    rows = [row for day in days.values() for row in day]
    assert len(rows) == len({row["text"] for row in rows}) == len({row["message_id"] for row in rows}) == 10_003
    assert all(1_100 <= len(day) <= 1_400 for day in days.values())


def test_every_message_was_written_on_the_day_of_its_file(days):
    for day, rows in days.items():
        moments = [datetime.fromisoformat(row["written_at"]) for row in rows]
        assert moments == sorted(moments)
        assert {moment.date().isoformat() for moment in moments} == {day}


def test_later_days_hold_intents_that_the_earlier_ones_do_not(days):
    intents = {day: {row["intent"] for row in rows} for day, rows in days.items()}
    early = set().union(*list(intents.values())[:4])
    assert len(early) == 50
    assert len(set().union(*intents.values())) == 77
    shares = [
        sum(row["intent"] not in early for row in rows) / len(rows) for day, rows in days.items() if day >= "2026-11-06"
    ]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(0.30, abs=0.01)
    assert shares[-1] == pytest.approx(0.85, abs=0.01)


def test_intents_are_words(days):
    assert all(row["intent"].replace(" ", "").isalpha() for rows in days.values() for row in rows)


def test_the_script_writes_these_very_drops(days, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("build_sample", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "TARGET", tmp_path)
    # The published file is not in the repository: its shape is made anew, with texts of no meaning.
    counts = Counter(row["intent"] for rows in days.values() for row in rows)
    with (tmp_path / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "category"])
        writer.writerows(
            [f"{intent} {number}", intent.replace(" ", "_")] for intent, n in counts.items() for number in range(n)
        )
    script.main(tmp_path / "train.csv")
    written = {path.stem: path.read_text().count("\n") - 1 for path in sorted(tmp_path.glob("2026-*.csv"))}
    assert written == {day: len(rows) for day, rows in days.items()}
