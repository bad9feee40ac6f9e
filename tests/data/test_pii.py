"""Personal data goes, what only looks like it stays."""

from collections import Counter
from typing import get_args

import pytest

from nightshift.data.pii import ORDER, redact
from nightshift.settings.intake import PiiKind

KINDS = list(get_args(PiiKind))

PERSONAL = {
    "write to jo.smith+bank@mail.example.co.uk, thanks": "write to <email>, thanks",
    "o'neil@example.org": "<email>",
    "card 4111 1111 1111 1111 was charged": "card <card> was charged",
    "card 5500-0055-5555-5559.": "card <card>.",
    "IBAN DE89 3704 0044 0532 0130 00 please": "IBAN <iban> please",
    "from gb82west12345698765432": "from <iban>",
    "BE68 5390 0754 7034 and so on": "<iban> and so on",
    "call +44 20 7946 0958 now": "call <phone> now",
    "call (212) 555-0123 or 212-555-0124": "call <phone> or <phone>",
    "07700 900123": "<phone>",
    "my number is 536-90-4399": "my number is <ssn>",
    "login from 192.168.1.254 and 2001:db8::1": "login from <ip> and <ip>",
}
HARMLESS = [
    "card 4111 1111 1111 1112 fails its checksum",
    "order 12345678901234567890",
    "GB82 WEST 1234 5698 7654 33 fails its checksum",
    "1,234.56 euros on 02.11.2026, not 1000000000",
    "at 12:30:45 on 2026-11-02T10:00:00Z",
    "from 100 200 3000 to 50",
    "version 1.2.3.4.5 of std::vector",
    "me@home and @you",
    "top up 500.00, then 20 30 50",
    "999.1.1.1 is no address",
]


@pytest.mark.parametrize(("text", "redacted"), PERSONAL.items())
def test_personal_data_is_replaced_by_its_kind(text, redacted):
    found = Counter()
    assert redact(text, KINDS, found) == redacted
    assert found.total() == redacted.count("<")


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_personal_is_left_alone(text):
    assert redact(text, KINDS, Counter()) == text


def test_only_the_kinds_asked_for_are_replaced():
    assert redact("a@b.org from 10.0.0.1", ["ip"], Counter()) == "a@b.org from <ip>"
    assert redact("a@b.org from 10.0.0.1", [], Counter()) == "a@b.org from 10.0.0.1"


def test_every_kind_of_the_configuration_is_known():
    assert set(ORDER) == set(KINDS)


@pytest.mark.parametrize("text", ["1" * 20_000, "1 " * 10_000, "a" * 20_000 + "@", "a.@" * 7_000, ":1" * 10_000])
@pytest.mark.timeout(5)
def test_a_hostile_text_is_searched_in_no_time(text):
    redact(text, KINDS, Counter())
