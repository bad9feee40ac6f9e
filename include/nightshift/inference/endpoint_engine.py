"""Answers of a hosted model over OpenAI's chat protocol: in order, with their costs.

A row that the endpoint refuses has no response but the reason; it never fails the interval. A refused parameter that does not
change the answer (the older name of the limit, a seed) is left out from then on; a refused decoding setting is an error, because
the answers would be different ones.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx

from nightshift.endpoint_client import (
    REFUSING_STATUS,
    TOO_LARGE_STATUS,
    TOO_LONG,
    BrokenOff,
    EndpointClient,
    text_of,
    tokens_of,
)
from nightshift.errors import BadEnvironment, BadInput
from nightshift.inference.batch_client import BatchClient
from nightshift.inference.chat_messages import as_sent, calls_as_text, reference_text, without_answer
from nightshift.inference.engine import ReferenceAnswer, Report, Response, seed_of
from nightshift.inference.reasoning import apart
from nightshift.settings.application import Application
from nightshift.settings.endpoint import Endpoint
from nightshift.training.chat_template import application_messages

KEY_VARIABLE = "NIGHTSHIFT_ENDPOINT_KEY"
# If all of the first rows are refused, the request is at fault, not the users' texts. If as many rows time out, break off
# or cannot be read one after another, the endpoint is at fault.
REFUSED_BEFORE_GIVING_UP = 10
# Why an answer ended, by the names that servers have for it; by any other name it is whole.
CUT = frozenset({"length", "model_length"})
WITHHELD = frozenset({"content_filter"})
SEEDS = 2**31

log = logging.getLogger(__name__)


class EndpointEngine:
    """Answers conversations with the model `identity` (`url` and `model`) of an endpoint.

    The API key is read from `NIGHTSHIFT_ENDPOINT_KEY` and sent to the address in the application's settings alone.

    :param max_new_tokens: longest answer, reasoning included.
    :param in_batches: use batches if `inference.endpoint.batch` is set; the answers may take a day.
    :raises BadInput: the version's address differs from the one in the settings, which need a key.
    """

    def __init__(
        self, identity: Mapping[str, str], application: Application, *, max_new_tokens: int, in_batches: bool = False
    ) -> None:
        settings = application.inference.endpoint
        self._url, self._model = identity["url"], identity["model"]
        self._settings = settings or Endpoint(url=self._url, model=self._model)
        if self._url != self._settings.identity["url"] and self._settings.connection:
            raise BadInput(
                f"this version of the model is at {self._url}, and inference.endpoint names {self._settings.url}: the key of "
                f"{self._settings.connection} is sent there alone. Release a version of the new address, or set the url back"
            )
        self._key = os.environ.get(KEY_VARIABLE) if self._settings.connection else None
        self._application, self._most = application, max_new_tokens
        self._batch = self._settings.batch if in_batches else None
        self._refused_names: frozenset[str] = frozenset()
        self._served: set[str] = set()
        self._answers, self._refusals, self._late = False, 0, 0
        self._lock = threading.Lock()

    @property
    def about(self) -> dict[str, Any]:
        """What a manifest keeps of it, with the endpoint's names of the model and the parameters that were left out."""
        found = {"engine": "endpoint", "device": self._url, "precision": "unknown", "model": self._model}
        left_out = {"left_out": sorted(self._refused_names)} if self._refused_names else {}
        return {**found, "served_as": sorted(self._served), **left_out}

    def likelihoods(self, rows: Sequence[Mapping[str, Any]], report: Report) -> list[float | None]:
        """Return None for each row: endpoints do not report likelihoods."""
        return [None for _ in rows]

    def answer(
        self, rows: Sequence[Mapping[str, Any]], report: Report, *, sample: int = 0, references: bool = False
    ) -> list[Response]:
        """Return the responses in the order of the rows; equal conversations are asked once.

        An endpoint does not tell how likely a reference answer is.

        :raises BadInput: the endpoint refuses the key, the model, a decoding setting, or all of the first rows.
        :raises BadEnvironment: it cannot be reached, or is busy for too long.
        """
        found: list[Response | None] = [None] * len(rows)

        def answered(same: Sequence[int], response: Response) -> None:
            for place in same:
                found[place] = response if place == same[0] else replace(response, saved=response.cost)

        places = self._different(rows)
        with self._client() as client:
            if self._batch:
                for same, response in self._in_batch(client, rows, places, report, sample):
                    answered(same, response)
            left = [same for same in places if found[same[0]] is None]
            done = len(rows) - sum(map(len, left))
            threads = ThreadPoolExecutor(self._settings.requests_at_once)
            try:
                equal = {threads.submit(self._ask, client, rows[same[0]], sample): same for same in left}
                for future in as_completed(equal):
                    response, same = future.result(), equal[future]
                    self._count(response)
                    answered(same, response)
                    done += len(same)
                    report(done, len(rows))
            finally:
                client.stop()
                threads.shutdown(cancel_futures=True)
        responses = [response for response in found if response is not None]
        if not references:
            return responses
        return [
            replace(response, reference=ReferenceAnswer(reference_text(row), 0, 0.0))
            for row, response in zip(rows, responses, strict=True)
        ]

    def announce(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Start the batch of rows before :meth:`answer` is called with them; without batches, do nothing.

        :raises BadInput: the endpoint refuses the key, or does not support batches.
        :raises BadEnvironment: it cannot be reached, or is busy for too long.
        """
        if self._batch:
            with self._client() as client:
                self._begun(client, rows, self._different(rows), 0)

    def _client(self) -> EndpointClient:
        settings = self._settings
        return EndpointClient.patient(
            self._url, self._key, timeout_seconds=settings.timeout_seconds, connections=settings.requests_at_once
        )

    def _different(self, rows: Sequence[Mapping[str, Any]]) -> list[list[int]]:
        """The indices of the rows, grouped by equal conversations."""
        places: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            asked = [list(without_answer(row["messages"])), row.get("tools"), self._application.prompt.taken_from(row)]
            places.setdefault(json.dumps(asked), []).append(place)
        return list(places.values())

    def _begun(
        self, client: EndpointClient, rows: Sequence[Mapping[str, Any]], places: Sequence[Sequence[int]], sample: int
    ) -> str:
        """The batch of some rows, found or started; the first indices are the request ids."""
        if not self._answers:
            self._ask(client, rows[0], sample)  # finds refused parameters now, instead of after a batch of a day
        bodies = {str(same[0]): self._body(rows[same[0]], sample, self._refused_names) for same in places}
        with self._told(client), BatchClient(self._url, self._key) as batches:
            return batches.begin(bodies)

    def _in_batch(
        self,
        client: EndpointClient,
        rows: Sequence[Mapping[str, Any]],
        places: Sequence[Sequence[int]],
        report: Report,
        sample: int,
    ) -> Iterator[tuple[Sequence[int], Response]]:
        """The answers of a batch. Rows without an answer, refused, expired or broken off, are asked one by one."""
        assert self._batch is not None  # noqa: S101  (checked by the caller)
        batch = self._begun(client, rows, places, sample)
        with self._told(client), BatchClient(self._url, self._key) as batches:
            completions = batches.completions(batch, lambda done: report(done, len(rows)))
        for same in places:
            if completion := completions.get(str(same[0])):
                self._was_answered(self._refused_names, completion)
                response = self._response(completion, None)
                yield same, replace(response, cost=response.cost * (1 - self._batch.discount))
        if left := len(places) - len(completions):
            log.warning("%s left %d of %d requests unanswered; asking them one by one", batch, left, len(places))

    @contextmanager
    def _told(self, client: EndpointClient) -> Iterator[None]:
        """Report the errors of a batch as those of a request."""
        try:
            yield
        except httpx.HTTPError as error:
            raise self._failure(client, error) from error

    def _count(self, response: Response) -> None:
        """Count refusals before the first answer.

        :raises BadInput: all of the first rows were refused.
        """
        if response.refusal and not self._answers:
            self._refusals += 1
            if self._refusals >= REFUSED_BEFORE_GIVING_UP:
                raise BadInput(f"{self._url} refuses every row: {response.refusal}")

    def _ask(self, client: EndpointClient, row: Mapping[str, Any], sample: int) -> Response:
        refused = self._refused_names
        while True:
            body = self._body(row, sample, refused)
            began = time.perf_counter()
            try:
                completion = client.complete(body)
            except httpx.HTTPStatusError as error:
                detail, status = error.response.text.lower(), error.response.status_code
                if status not in {*REFUSING_STATUS, TOO_LARGE_STATUS}:
                    raise self._failure(client, error) from error
                if status == TOO_LARGE_STATUS or TOO_LONG.search(detail):
                    return Response("", 0, "length", too_long=True, refusal=client.what_happened(error))
                if names := {name for name in ("max_tokens", "seed") if name in body and name in detail}:
                    refused |= names
                    continue
                if "temperature" in body and not body["temperature"] and "temperature" in detail:
                    refused |= {"temperature"}
                    continue
                # Requests with these settings were answered before, so this one is refused for its text.
                setting = next((self._chosen[name] for name in self._chosen if _names(name, detail)), None)
                if setting and not self._answers:
                    raise BadInput(
                        f"{self._url} refuses {setting} ({client.what_happened(error)}); change it, or the endpoint"
                    ) from error
                return Response("", 0, "refused", refusal=client.what_happened(error))
            except (httpx.ReadTimeout, httpx.DecodingError, BrokenOff) as error:
                if self._is_down():
                    raise self._failure(client, error) from error
                return Response("", 0, "refused", refusal=client.what_happened(error))
            except httpx.HTTPError as error:
                raise self._failure(client, error) from error
            milliseconds = (time.perf_counter() - began) * 1000
            self._was_answered(refused, completion)
            return self._response(completion, milliseconds)

    def _is_down(self) -> bool:
        """Whether another row without a usable answer means that the endpoint is down, and not that the row is difficult."""
        with self._lock:
            self._late += 1
            return not self._answers or self._late >= REFUSED_BEFORE_GIVING_UP

    @property
    def _chosen(self) -> dict[str, str]:
        """The settings that differ from the defaults, by their names in the protocol."""
        decoding, prompt = self._application.decoding, self._application.prompt
        names = ("temperature", "top_p", "stop", "repetition_penalty", "frequency_penalty", "presence_penalty")
        found = {name: f"decoding.{name}" for name in names if name in decoding.model_dump()}
        if decoding.json_schema is not None:
            found |= {"response_format": "decoding.json_schema", "json_schema": "decoding.json_schema"}
        return found | ({"chat_template_kwargs": "prompt.template"} if prompt.template else {})

    def _body(self, row: Mapping[str, Any], sample: int, refused: frozenset[str]) -> dict[str, Any]:
        decoding, prompt = self._application.decoding, self._application.prompt
        settings = decoding.model_dump()
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [
                as_sent(message)
                for message in application_messages(without_answer(row["messages"]), prompt, row.get("metadata"))
            ],
            "max_completion_tokens" if "max_tokens" in refused else "max_tokens": self._most,
            **({} if "temperature" in refused else {"temperature": decoding.temperature}),
            **{name: settings[name] for name in self._chosen if name in settings and name != "json_schema"},
        }
        if decoding.temperature and "seed" not in refused:
            body["seed"] = seed_of(decoding.seed, str(row["digest"]), sample) % SEEDS
        if decoding.json_schema is not None:
            schema = {"name": "answer", "schema": decoding.json_schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if prompt.template:
            body["chat_template_kwargs"] = prompt.template
        if tools := row.get("tools"):
            body["tools"] = json.loads(tools)
        return body

    def _was_answered(self, refused: frozenset[str], completion: Mapping[str, Any]) -> None:
        """Record the endpoint's name of the model, and that it accepts requests without the `refused` parameters."""
        with self._lock:
            self._answers, self._late = True, 0
            self._served.add(_encodable(str(completion.get("model") or self._model)[:200]))
            if new := refused - self._refused_names:
                self._refused_names |= new
                log.warning("%s refuses %s: left out from now on", self._url, ", ".join(sorted(new)))

    def _response(self, completion: Mapping[str, Any], milliseconds: float | None) -> Response:
        choice, price = completion["choices"][0], self._settings.price
        message, reason = choice["message"], str(choice.get("finish_reason"))
        calls = message.get("tool_calls")
        reasoning, answer = apart(text_of(message.get("content")) or str(message.get("refusal") or ""))
        reasoning = str(message.get("reasoning_content") or message.get("reasoning") or reasoning)
        called = calls_as_text(calls if isinstance(calls, list) else [calls] * bool(calls))
        answer = "\n".join(filter(None, [answer, *called]))
        read, written, thought = tokens_of(completion)
        return Response(
            "" if reason in WITHHELD else _encodable(answer),
            written,
            "refused" if reason in WITHHELD else "length" if reason in CUT else "stop",
            _encodable(reasoning),
            thought,
            read,
            milliseconds,
            refusal=reason if reason in WITHHELD else "",
            cost=(read * price.input + written * price.output) / 1_000_000,
        )

    def _failure(self, client: EndpointClient, error: httpx.HTTPError) -> BadInput | BadEnvironment:
        batch = ", and that it supports batches" if self._batch else ""
        ask = f"Check inference.endpoint and the password of its connection{batch}."
        return client.failure(f"the model {self._model} at {self._url} gave no answer", error, ask)


def _names(name: str, detail: str) -> bool:
    """Whether an endpoint's error names a parameter; `stop`, which is also an ordinary word, only in quotes."""
    return bool(re.search(r"[\"'`]stop[\"'`]", detail)) if name == "stop" else name in detail


def _encodable(text: str) -> str:
    """Replace lone surrogates, which JSON can hold and no file can."""
    return text.encode("utf-8", "replace").decode()
