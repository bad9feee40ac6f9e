"""Who is answered by which of two versions: the same in every language, sticky, and as often as the share says."""

import json
import subprocess

import pytest

from nightshift.assignment import group_of, is_challengers, point_of
from nightshift.stack.place import CHECKOUT

VECTORS = json.loads((CHECKOUT / "docs" / "assignment.json").read_text())
UNITS = [f"user {number}" for number in range(20_000)]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda one: one["unit"])
def test_a_unit_has_the_same_point_here_as_in_a_shell_with_openssl(vector):
    command = ["openssl", "dgst", "-sha256", "-hmac", vector["key"]]
    told = subprocess.run(command, input=vector["unit"].encode(), stdout=subprocess.PIPE, check=True).stdout
    digits = told.split()[-1].decode()[:13]
    assert point_of(vector["key"], vector["unit"]) == vector["point"] == int(digits, 16) / 16**13
    at = [share for share in (0.05, 0.25, 0.5) if is_challengers(vector["key"], vector["unit"], share)]
    assert at == vector["challenger_at"]


def test_a_larger_share_keeps_whom_the_challenger_answered_and_has_as_many_as_it_says():
    small, large = ({unit for unit in UNITS if is_challengers("key", unit, share)} for share in (0.05, 0.25))
    assert small < large
    assert (len(small) / len(UNITS), len(large) / len(UNITS)) == pytest.approx((0.05, 0.25), abs=0.01)


def test_another_split_assigns_anew():
    first, second = ({unit for unit in UNITS if is_challengers(key, unit, 0.25)} for key in ("one", "two"))
    assert len(first & second) / len(first) == pytest.approx(0.25, abs=0.03)


def test_groups_are_spread_evenly_over_either_arm():
    arm = [group_of("key", unit, 10) for unit in UNITS if is_challengers("key", unit, 0.25)]
    assert all(arm.count(group) / len(arm) == pytest.approx(0.1, abs=0.02) for group in range(10))
