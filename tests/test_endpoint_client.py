"""A busy endpoint is asked again when it wants to be, as a number of seconds or as a time."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from nightshift.endpoint_client import EndpointClient


@pytest.mark.parametrize(
    ("wanted", "least", "most"),
    [
        ("1", 1.0, 3.0),
        (lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True), 0.9, 3.0),
        ("Thu, 01 Jan 2015 00:00:00 GMT", 0.0, 0.8),
        ("soon", 0.0, 0.8),
    ],
)
def test_the_next_try_waits_as_long_as_the_endpoint_asks_for(serve, wanted, least, most):
    wanted, asked = wanted() if callable(wanted) else wanted, []

    def reply(_body):
        asked.append(time.monotonic())
        return (429, "slow down", {"Retry-After": wanted}) if len(asked) == 1 else (200, "fine")

    with EndpointClient(serve(reply).url, None, timeout_seconds=5, connections=1, tries=3) as client:
        client.complete({"messages": []})
    first, second = asked
    assert least <= second - first <= most
