"""A client of OpenAI's batch protocol: batches are answered within a day, usually at half the price.

A batch is found again by the digest of its requests in its metadata, so that a job that was killed while it waited does not
submit it twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, Self

import httpx

from nightshift.endpoint_client import PASSING_STATUS, SAID_CHARACTERS, is_broken_off, is_completion, key_header
from nightshift.errors import BadInput
from nightshift.shown import shown

CHAT = "/v1/chat/completions"
DIGEST = "nightshift"  # in a batch's metadata
POLL_SECONDS = 30.0
TRIES, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 8, 1.0, 60.0
TIMEOUT_SECONDS = 600.0  # of a file of 200 MB
BATCHES_A_PAGE, MOST_PAGES = 100, 20
# In any other final state, some or all requests are unanswered.
ALIVE = frozenset({"validating", "in_progress", "finalizing", "completed"})
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


class BatchClient:
    """The files and batches of one endpoint.

    :param url: up to `/v1`.
    :param key: sent as a bearer token; without one, none is sent.
    :raises BadInput: no header can hold the key.
    """

    def __init__(self, url: str, key: str | None) -> None:
        self._client = httpx.Client(base_url=url.rstrip("/"), headers=key_header(key), timeout=TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        self._client.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._client.__exit__()

    def begin(self, requests: Mapping[str, Mapping[str, Any]]) -> str:
        """Return the id of the batch of these requests: an existing or a new one.

        :param requests: request bodies by id.
        :raises httpx.HTTPError: the endpoint does not answer, refuses, or does not support batches.
        """
        lines = [
            json.dumps({"custom_id": name, "method": "POST", "url": CHAT, "body": body}, sort_keys=True)
            for name, body in requests.items()
        ]
        content = "".join(f"{line}\n" for line in lines).encode()
        digest = sha256(content).hexdigest()
        if known := self._known(digest):
            return known
        upload = {
            "files": {"file": (f"{digest[:16]}.jsonl", content, "application/jsonl")},
            "data": {"purpose": "batch"},
        }
        with _protocol():
            file = self._asked("POST", "/files", **upload).json()["id"]
            batch = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h", "metadata": {DIGEST: digest}}
            return str(self._asked("POST", "/batches", json=batch).json()["id"])

    def completions(self, batch: str, report: Callable[[int], None]) -> dict[str, dict[str, Any]]:
        """Wait until a batch ends, and return the completions of the answered requests, by their ids.

        :param report: called with the number of answered requests after each poll.
        :raises BadInput: the endpoint rejects the batch, or it was cancelled.
        :raises httpx.HTTPError: the endpoint does not answer, or refuses.
        """
        with _protocol():
            while True:
                state = self._asked("GET", f"/batches/{batch}").json()
                report(int((state.get("request_counts") or {}).get("completed") or 0))
                if state["status"] in ENDED:
                    break
                time.sleep(POLL_SECONDS)
            if state["status"] in {"failed", "cancelled"}:
                raise BadInput(
                    f"{batch} {shown(json.dumps(state.get('errors')), SAID_CHARACTERS)}: it is {state['status']}"
                )
            if not state.get("output_file_id"):
                return {}
            lines = self._asked("GET", f"/files/{state['output_file_id']}/content").text
            answers = {
                line["custom_id"]: line.get("response") or {}
                for line in map(json.loads, filter(None, lines.split("\n")))
            }
            bodies = {name: one["body"] for name, one in answers.items() if is_completion(one.get("body"))}
            return {name: body for name, body in bodies.items() if not is_broken_off(body)}

    def _known(self, digest: str) -> str | None:
        """The newest batch with these requests that has not failed, among recent ones."""
        after: dict[str, str] = {}
        with _protocol():
            for _ in range(MOST_PAGES):
                page = self._asked("GET", "/batches", params={"limit": BATCHES_A_PAGE, **after}).json()
                for batch in page["data"]:
                    if (batch.get("metadata") or {}).get(DIGEST) == digest and batch["status"] in ALIVE:
                        return str(batch["id"])
                if not page.get("has_more") or not page["data"]:
                    break
                after = {"after": str(page["data"][-1]["id"])}
        return None

    def _asked(self, method: str, path: str, **request: Any) -> httpx.Response:
        """The answer to a request; temporary errors are retried."""
        pause = FIRST_PAUSE_SECONDS
        for left in reversed(range(TRIES)):
            try:
                return self._client.request(method, path, **request).raise_for_status()
            except httpx.HTTPStatusError as error:
                if error.response.status_code not in PASSING_STATUS or not left:
                    raise
            except httpx.TransportError:
                if not left:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        raise AssertionError("the last try returns or raises")


@contextmanager
def _protocol() -> Iterator[None]:
    """Raise an answer of another form as a decoding error."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise httpx.DecodingError(f"the answer does not follow the batch protocol: {error!r}") from error
