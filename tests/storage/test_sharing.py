"""Waiting for other nodes: as long as one of them gets on with its work, and no longer."""

import pytest

from nightshift.errors import BadEnvironment
from nightshift.storage import sharing
from nightshift.storage.sharing import await_parts, named

PARTS = [(first, first + 4) for first in range(0, 50, 5)]


class Clock:
    """Time that passes while somebody sleeps; at the given seconds a part becomes visible."""

    def __init__(self, monkeypatch, visible_at):
        self.now, self.visible_at, self.asked = 0.0, visible_at, 0
        monkeypatch.setattr(sharing.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(sharing.time, "sleep", self.sleep)

    def sleep(self, seconds):
        self.now += seconds

    def find(self, first, last):
        self.asked += 1
        return f"manifest of {first}" if self.visible_at.get((first, last), 1e9) <= self.now else None


def test_all_parts_come_back_in_order_when_the_last_node_is_done(monkeypatch):
    minute = 60
    # Each of two other nodes needs 25 minutes for a part: longer in all than the patience, never without a new part.
    clock = Clock(monkeypatch, {part: 25 * minute * (number // 3 + 1) for number, part in enumerate(PARTS)})
    mine = {part: f"manifest of {part[0]}" for part in PARTS[0::3]}
    said = []
    found = await_parts(PARTS, mine, clock.find, 3, lambda *numbers: said.append(numbers))
    assert found == [f"manifest of {first}" for first, _ in PARTS]
    assert said[0] == (4, 10, "2 of 3 nodes")
    assert clock.now == 75 * minute
    # Two nodes are asked after at every look, however many parts they owe.
    assert clock.asked <= 2 * (clock.now / sharing.POLL_SECONDS + 1) + len(PARTS)


def test_a_node_that_does_nothing_is_given_up_and_its_rows_are_named(monkeypatch):
    clock = Clock(monkeypatch, {PARTS[1]: 600})
    said = (
        r"1 of 2 nodes published nothing new for 30 minutes; 4 of 10 parts are missing "
        r"\(rows 15-19, 25-29, 35-39, 45-49\)"
    )
    with pytest.raises(BadEnvironment, match=said):
        await_parts(PARTS, dict.fromkeys(PARTS[0::2]), clock.find, 2, lambda *_: None)
    assert clock.now == 600 + sharing.PATIENCE_SECONDS


def test_only_the_first_of_many_rows_are_named():
    assert named(PARTS) == "rows 0-4, 5-9, 10-14, 15-19, 20-24, …"
