"""Requests for answers and vectors to an endpoint that speaks OpenAI's protocol, bounded in time, in size and in tries."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Self, TypeVar

import httpx

from nightshift.errors import BadEnvironment, BadInput
from nightshift.shown import shown

Read = TypeVar("Read")
FIRST_PAUSE_SECONDS = 1.0
TRIES, LONGEST_PAUSE_SECONDS = 8, 60.0  # some three minutes of an endpoint that is busy
MOST_ANSWER_BYTES = 32_000_000
SAID_CHARACTERS = 300  # of what an endpoint says to a request that failed
MOST_TOKENS = 2**31 - 1  # what a column of counts holds
PASSING_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
REFUSING_STATUS = frozenset({400, 422})
TOO_LARGE_STATUS = 413
TOO_LONG = re.compile(
    r"context (?:length|window)|too (?:large|long)|maximum (?:context|input length)|context_length_exceeded|"
    r"less than \d+ tokens"
)


class BrokenOff(httpx.ReadError):
    """The endpoint broke an answer off because of an error of its own (`finish_reason: error`)."""


def key_header(key: str | None) -> dict[str, str]:
    """Return the header that holds an API key, without the white space that files and consoles leave around it.

    :raises BadInput: no header can hold it; the message does not tell it.
    """
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise BadInput("the API key holds a character that no header can: set the password of its connection anew")
    return {"Authorization": f"Bearer {key}"} if key else {}


class EndpointClient:
    """One endpoint with its connections; several threads may use it together.

    :param url: up to `/v1`.
    :param key: sent as a bearer token; without one, none is sent.
    :param timeout_seconds: longest wait for one answer.
    :param connections: requests that are under way together.
    :param tries: of one request, where an endpoint is busy or cannot be reached.
    :param timeouts: tries of a request whose answer does not come in time or breaks off, at most `tries`.
    :param longest_pause_seconds: between two tries, whatever the endpoint asks for.
    :param most_bytes: of one answer.
    :raises BadInput: no header can hold the key.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        timeout_seconds: float,
        connections: int,
        tries: int,
        timeouts: int = 3,
        longest_pause_seconds: float = 30.0,
        most_bytes: int = 1_000_000,
    ) -> None:
        self._url, self._key, self._timeout = url.rstrip("/"), (key or "").strip(), timeout_seconds
        self._tries, self._timeouts = tries, timeouts
        self._longest_pause, self._most_bytes = longest_pause_seconds, most_bytes
        self._stopped = threading.Event()
        self._client = httpx.Client(
            headers=key_header(key),
            timeout=timeout_seconds,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    @classmethod
    def patient(cls, url: str, key: str | None, *, timeout_seconds: float, connections: int) -> Self:
        """Return a client for what a job cannot do without: it waits some minutes for an endpoint that is busy."""
        return cls(
            url,
            key,
            timeout_seconds=timeout_seconds,
            connections=connections,
            tries=TRIES,
            timeouts=2,
            longest_pause_seconds=LONGEST_PAUSE_SECONDS,
            most_bytes=MOST_ANSWER_BYTES,
        )

    def __enter__(self) -> Self:
        self._client.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._client.__exit__()

    def stop(self) -> None:
        """Let requests that wait for another try fail at once."""
        self._stopped.set()

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the endpoint's chat completion; what may pass is tried again.

        :raises httpx.HTTPStatusError: it refuses the request, or is busy for longer than all tries.
        :raises BrokenOff: it broke the answer off each time.
        :raises httpx.HTTPError: it does not answer in time, or speaks another protocol.
        """
        return self._ask("chat/completions", body, _completion)

    def embed(self, body: dict[str, Any]) -> tuple[list[list[float]], int]:
        """Return the vectors of the texts of `input`, in their order, and the tokens that count: as :meth:`complete`."""
        return self._ask("embeddings", body, lambda reply: _embeddings(reply, len(body["input"])))

    def failure(self, said: str, error: httpx.HTTPError, ask: str) -> BadInput | BadEnvironment:
        """Return what to raise where an endpoint gave no answer.

        :param ask: what a person is to look at where the key, the model or the address is refused.
        """
        said = f"{said}: {self.what_happened(error)}"
        if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in {401, 403, 404}:
            return BadInput(f"{said}. {ask}")
        return BadEnvironment(said)

    def _ask(self, path: str, body: dict[str, Any], read: Callable[[httpx.Response], Read]) -> Read:
        pause, timeouts = FIRST_PAUSE_SECONDS, self._timeouts
        for left in reversed(range(self._tries)):
            try:
                return read(self._reply(path, body).raise_for_status())
            except httpx.HTTPStatusError as error:
                if error.response.status_code not in PASSING_STATUS or not left:
                    raise
                seconds = _retry_after(error.response)
                if self._stopped.wait(min(pause if seconds is None else seconds, self._longest_pause)):
                    raise
            except httpx.TransportError as error:
                timeouts -= isinstance(error, httpx.ReadTimeout | BrokenOff)
                if not left or not timeouts or self._stopped.wait(min(pause, self._longest_pause)):
                    raise
            pause *= 2
        raise AssertionError("the last try returns or raises")

    def what_happened(self, error: httpx.HTTPError) -> str:
        """Return what failed, with what the endpoint said: untrusted, bounded, and without the key."""
        said = f"{type(error).__name__} {error}"
        if isinstance(error, httpx.HTTPStatusError):
            said = f"status {error.response.status_code}: {error.response.text}".removesuffix(": ")
        return shown(said.replace(self._key, "<key>") if self._key else said, SAID_CHARACTERS)

    def _reply(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """Return the answer to a request, whatever its status.

        :raises httpx.HTTPError: there is none, or it comes too slowly.
        """
        ends = time.monotonic() + self._timeout
        content = bytearray()
        with self._client.stream("POST", f"{self._url}/{path}", json=body) as reply:
            for part in reply.iter_bytes():
                content += part
                if len(content) > self._most_bytes:  # cut, it is no JSON any more
                    break
                if time.monotonic() > ends:
                    raise httpx.ReadTimeout(f"no whole answer in {self._timeout:g} s")
        # Without the encoding that it names, which may be none of text: JSON is UTF-8.
        kept = [(name, value) for name, value in reply.headers.raw if name.lower() == b"retry-after"]
        return httpx.Response(reply.status_code, headers=kept, content=bytes(content), request=reply.request)


def _retry_after(reply: httpx.Response) -> float | None:
    """The seconds after which an endpoint asks to be tried again: it names them, or a time."""
    wanted = reply.headers.get("Retry-After", "")
    if wanted.isdecimal():
        return float(wanted)
    try:
        return max(0.0, parsedate_to_datetime(wanted).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def is_completion(found: Any) -> bool:
    """Whether JSON is a chat completion: a message with a text, or the parts of one, or with calls of tools."""
    try:
        message = found["choices"][0]["message"]
        return bool(message.keys() & {"content", "tool_calls"}) and isinstance(
            message.get("content"), str | list | None
        )
    except (LookupError, TypeError, AttributeError):
        return False


def is_broken_off(completion: Mapping[str, Any]) -> bool:
    """Whether an error of the endpoint ended the answer of a completion."""
    return bool(completion["choices"][0].get("finish_reason") == "error")


def text_of(content: Any) -> str:
    """Return the text of a message; of one that is sent in parts, the text of these."""
    parts = content if isinstance(content, list) else [content]
    texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
    return "".join(text for text in texts if isinstance(text, str))


def tokens_of(completion: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the tokens of the prompt, of the answer, and of the reasoning in it; 0 for what an endpoint does not tell."""
    usage = completion.get("usage")
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    return _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"), _count(details, "reasoning_tokens")


def _count(usage: Any, name: str) -> int:
    number = usage.get(name) if isinstance(usage, dict) else None
    return int(number) if isinstance(number, int | float) and 0 <= number <= MOST_TOKENS else 0


def _completion(reply: httpx.Response) -> dict[str, Any]:
    try:
        completion: dict[str, Any] = reply.json()
    except (ValueError, RecursionError):
        completion = {}
    if not is_completion(completion):
        raise httpx.DecodingError("the answer is not a chat completion", request=reply.request)
    if is_broken_off(completion):
        raise BrokenOff("the answer broke off with `finish_reason: error`", request=reply.request)
    return completion


def _embeddings(reply: httpx.Response, texts: int) -> tuple[list[list[float]], int]:
    try:
        answer = reply.json()
        vectors = [[*map(float, one["embedding"])] for one in sorted(answer["data"], key=lambda one: one["index"])]
        tokens = _count(answer.get("usage"), "prompt_tokens")
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        vectors, tokens = [], 0
    if len(vectors) != texts:
        raise httpx.DecodingError("the answer is not a vector for each text", request=reply.request)
    return vectors, tokens
