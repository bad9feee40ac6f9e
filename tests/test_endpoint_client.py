"""A busy endpoint is asked again when it wants to be, as a number of seconds or as a time."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from nightshift.endpoint_client import EndpointClient
from nightshift.errors import BadInput
from nightshift.inference.batch_client import BatchClient


@pytest.mark.parametrize(
    ("wanted", "least", "most"),
    [
        ("1", 1.0, 3.0),
        (lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True), 0.9, 3.0),
        ("Thu, 01 Jan 2015 00:00:00 GMT", 0.0, 0.8),
        ("soon", 0.0, 0.8),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999999", 0.0, 0.8),
        ("\xb2", 0.0, 0.8),
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


@pytest.mark.parametrize("charset", ["base64", "rot13", "idna", "utf-16"])
def test_what_an_endpoint_says_is_read_whatever_encoding_it_names(serve, charset):
    server = serve(lambda _body: (400, "too long", {"Content-Type": f"text/html; charset={charset}"}))
    with EndpointClient(server.url, None, timeout_seconds=5, connections=1, tries=1) as client:
        with pytest.raises(httpx.HTTPStatusError) as refused:
            client.complete({"messages": []})
        assert client.what_happened(refused.value) == "status 400: too long"


@pytest.mark.parametrize("key", ["sk-abc\n", " sk-abc", "sk-abc\r\n"])
def test_white_space_around_a_key_is_not_sent(serve, key):
    server = serve(lambda _body: (200, "fine"))
    with EndpointClient(server.url, key, timeout_seconds=5, connections=1, tries=1) as client:
        client.complete({"messages": []})
    assert server.requests[0][1]["Authorization"] == "Bearer sk-abc"


@pytest.mark.parametrize("key", ["sk-\u043a\u043b\u044e\u0447", "sk-abc\nX-Other: 1", "sk-abc\x00"])
def test_a_key_that_no_header_can_hold_is_refused_without_being_told(key):
    for client in (
        lambda: EndpointClient("http://127.0.0.1:9/v1", key, timeout_seconds=5, connections=1, tries=1),
        lambda: BatchClient("http://127.0.0.1:9/v1", key),
    ):
        with pytest.raises(BadInput, match="the API key") as refused:
            client()
        assert "sk-" not in str(refused.value)


def test_a_redirect_to_another_host_takes_no_key_along(serve):
    other = serve(lambda _body: (200, "mine"))
    server = serve(lambda _body: (307, "moved", {"Location": f"{other.url}/chat/completions"}))
    client = EndpointClient(server.url, "sk-abc", timeout_seconds=5, connections=1, tries=2)
    with client, pytest.raises(httpx.HTTPStatusError, match="307"):
        client.complete({"messages": []})
    assert (len(server.requests), len(other.requests)) == (1, 0)
