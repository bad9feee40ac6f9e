"""Releases in their order, those of an earlier version too; and an alias that somebody moved by hand."""

import json
from datetime import UTC, datetime

from upath import UPath

from nightshift.ledger.approval import asked_after
from nightshift.ledger.records import Release, Request
from nightshift.ledger.releases import moved_by_hand, unfinished
from nightshift.ledger.store import Ledger

MOMENT = datetime(2026, 11, 20, 5, tzinfo=UTC)


def test_a_moved_alias_is_named_with_the_way_back(storage):
    ledger = Ledger(storage, "bank")
    assert moved_by_hand(ledger, "bank", "1", "a" * 64) is None, "nothing was ever released"
    ledger.create(Release(number=1, model_digest="a" * 64, version="1", released=MOMENT))
    ledger.create(Release(number=2, model_digest="b" * 64, version="2", released=MOMENT.replace(day=21)))
    assert moved_by_hand(ledger, "bank", "2", "b" * 64) is None
    said = moved_by_hand(ledger, "bank", "1", "a" * 64)
    assert "names version 1, but version 2 was released last (2026-11-21 05:00 UTC)" in said
    assert "Set the alias back to version 2; to have version 1 instead, start bank_release" in said


def test_releases_that_an_earlier_version_wrote_come_first_in_order_of_time(storage):
    ledger = Ledger(storage, "bank")
    folder = UPath(storage) / "bank" / "ledger" / "releases"
    folder.mkdir(parents=True)
    for letter, day in (("a", 21), ("b", 20)):
        old = {"model_digest": letter * 64, "version": letter, "released": MOMENT.replace(day=day).isoformat()}
        (folder / f"{letter * 16}.json").write_text(json.dumps(old))
    assert [(one.number, one.version) for one in ledger.releases()] == [(1, "b"), (2, "a")]
    assert not unfinished(ledger.releases()[-1], "a" * 64, ""), "it was written when the alias had moved"
    assert ledger.create(Release(number=3, ahead=True, model_digest="b" * 64, version="b", released=MOMENT))
    assert [(one.number, one.version) for one in ledger.releases()] == [(1, "b"), (2, "a"), (3, "b")]
    assert not ledger.create(Release(number=3, model_digest="c" * 64, released=MOMENT)), "one of two wins"


def test_what_an_earlier_version_asked_counts_until_the_next_release(storage):
    ledger = Ledger(storage, "bank")
    ledger.create(Release(number=1, model_digest="a" * 64, released=MOMENT))
    request = Request.model_validate(
        {
            "id": "r", "version": "2", "model_digest": "b" * 64, "evaluation_digest": "e" * 64, "champion_digest": "a" * 64,
            "verdict": "PASS", "subject": "s", "dag_id": "d", "run_id": "r", "task_id": "t",
            "asked": MOMENT.replace(day=21), "until": MOMENT.replace(day=22),
        }
    )  # fmt: skip
    assert asked_after(request, ledger.releases()) == 1
    ledger.create(Release(number=2, model_digest="c" * 64, released=MOMENT.replace(day=22)))
    assert asked_after(request, ledger.releases()) == 1
