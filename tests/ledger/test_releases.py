"""An alias that somebody moved by hand is noticed, and the text says what to do."""

from datetime import UTC, datetime

from nightshift.ledger.records import Release
from nightshift.ledger.releases import moved_by_hand
from nightshift.ledger.store import Ledger

MOMENT = datetime(2026, 11, 20, 5, tzinfo=UTC)


def test_a_moved_alias_is_named_with_the_way_back(storage):
    ledger = Ledger(storage, "bank")
    assert moved_by_hand(ledger, "bank", "1", "a" * 64) is None, "nothing was ever released"
    ledger.replace(Release(model_digest="a" * 64, version="1", released=MOMENT))
    ledger.replace(Release(model_digest="b" * 64, version="2", released=MOMENT.replace(day=21)))
    assert moved_by_hand(ledger, "bank", "2", "b" * 64) is None
    said = moved_by_hand(ledger, "bank", "1", "a" * 64)
    assert "names version 1, but version 2 was released last (2026-11-21 05:00 UTC)" in said
    assert "Set the alias back to version 2; to have version 1 instead, start bank_release" in said
