"""Judgements that were paid for: found again for a month or two after they were last asked for, and then removed."""

from datetime import UTC, datetime

import pytest
from upath import UPath

from nightshift.evaluation import judgements
from nightshift.evaluation.judgements import Judgement, KeptJudgements
from nightshift.storage.files import names_in

everywhere = pytest.mark.parametrize("storage", ["file", "s3", "memory"], indirect=True)
GOOD = Judgement(0.9, "It answers.")


@pytest.fixture
def place(storage):
    return UPath(storage) / "bank" / "judgements"


@pytest.fixture
def month(monkeypatch):
    """Sets the current month and the one before."""
    return lambda current, before: monkeypatch.setattr(judgements, "_months", lambda _now: (current, before))


def kept_at(place):
    kept = KeptJudgements(place, {"model": "judge-1"})
    kept.remove_old()
    return kept


@everywhere
def test_a_judgement_that_is_asked_for_every_month_stays(place, month):
    month("2026-01", "2025-12")
    kept_at(place).keep({"message": "hi"}, GOOD)
    for current, before in [("2026-02", "2026-01"), ("2026-03", "2026-02"), ("2026-04", "2026-03")]:
        month(current, before)
        assert kept_at(place).find({"message": "hi"}) == GOOD
    assert names_in(place) == ["2026-03", "2026-04"]


@everywhere
def test_a_judgement_that_nobody_asked_for_in_a_whole_month_is_removed(place, month):
    month("2026-01", "2025-12")
    kept_at(place).keep({"message": "hi"}, GOOD)
    month("2026-03", "2026-02")
    kept_at(place).keep({"message": "new"}, GOOD)
    assert names_in(place) == ["2026-03"]
    assert kept_at(place).find({"message": "hi"}) is None


def test_what_an_earlier_version_kept_for_good_is_removed(place):
    (place / "ab").mkdir(parents=True)
    (place / "ab" / "abcd.json").write_text("{}")
    kept_at(place)
    assert names_in(place) == []


def test_the_month_before_january_is_december():
    assert judgements._months(datetime(2026, 1, 31, 23, 59, tzinfo=UTC)) == ("2026-01", "2025-12")
