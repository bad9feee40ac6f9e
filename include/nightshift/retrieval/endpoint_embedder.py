"""Embeddings from a hosted model over OpenAI's protocol, with their costs."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from upath import UPath

from nightshift.endpoint_client import REFUSING_STATUS, TOO_LARGE_STATUS, TOO_LONG, EndpointClient
from nightshift.errors import BadEnvironment, BadInput
from nightshift.retrieval.kept_vectors import KeptVectors
from nightshift.settings.endpoint import EmbeddingEndpoint
from nightshift.settings.retrieval import Embedder
from nightshift.storage.endpoint_accounts import keep_endpoint_account

AT_ONCE = 32  # texts of a request, accepted by all known servers
PLAIN = "a"  # a harmless text: if it is refused, every text is

log = logging.getLogger(__name__)


def endpoint_identity(settings: Embedder) -> dict[str, Any]:
    """Return the identity of a model at an endpoint: all that determines its vectors."""
    assert settings.endpoint  # noqa: S101  (checked by the caller)
    return {"url": settings.endpoint.url.rstrip("/"), **settings.model_dump(mode="json", exclude={"endpoint"})}


class EndpointEmbedder:
    """Embeds texts with a model at an endpoint. A refused text has no vector; one that is too long is cut.

    The key is read from the variable of the endpoint in the application's file, and sent to its address only.

    :param identity: from :func:`endpoint_identity`.
    :param endpoints: of the application's file, :attr:`Application.embedding_endpoints`.
    :param home: the application's folder, for accounts of the costs.
    :param kept: kept vectors; None: vectors are not kept. Kept vectors have 16 bits, and so have returned ones, the first time
        too.
    """

    def __init__(
        self,
        identity: dict[str, Any],
        endpoints: Sequence[Embedder],
        home: UPath,
        kept: KeptVectors | None = None,
    ) -> None:
        self._identity, self._home, self._kept = identity, home, kept
        self._url, self._model = identity["url"], identity["model"]
        self.dimensions: int = identity["dimensions"]
        at_url = [one for one in endpoints if one.endpoint and one.endpoint.url.rstrip("/") == self._url]
        self._named = min(at_url, key=lambda one: one.model != self._model, default=None)
        self._settings = (self._named and self._named.endpoint) or EmbeddingEndpoint(url=self._url)
        self._key = os.environ.get(self._settings.key_variable) if self._settings.key_variable else None
        self._takes_dimensions, self._answers, self._tokens = True, False, 0
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str], *, question: bool = False) -> NDArray[np.float32]:
        """Return a unit vector for each text, shape (texts, dimensions); zeros for a refused text.

        Equal texts are sent once.

        :raises BadInput: the endpoint refuses the key, the model or every text, or its vectors do not fit the settings.
        :raises BadEnvironment: it cannot be reached, or is busy for too long.
        """
        before = self._identity["question" if question else "passage"]
        asked = list(dict.fromkeys(before + text for text in texts if text.strip()))
        found: dict[str, Any] = dict(self._kept.find(asked)) if self._kept else {}
        if left := [text for text in asked if text not in found]:
            found |= self._paid(left)
        unknown = np.zeros(self.dimensions, np.float32)
        return np.array([found.get(before + text, unknown) for text in texts], np.float32).reshape(-1, self.dimensions)

    def _paid(self, texts: list[str]) -> dict[str, Any]:
        """Request the vectors of texts from the endpoint, and account for the cost."""
        found: dict[str, Any] = {}
        parts = [texts[start : start + AT_ONCE] for start in range(0, len(texts), AT_ONCE)]
        settings, tokens = self._settings, self._tokens
        with EndpointClient.patient(
            self._url, self._key, timeout_seconds=settings.timeout_seconds, connections=settings.requests_at_once
        ) as client:
            threads = ThreadPoolExecutor(settings.requests_at_once)
            try:
                for some in threads.map(lambda part: self._embedded(client, part), parts):
                    found |= some
            finally:
                client.stop()
                threads.shutdown(cancel_futures=True)
                if cost := (self._tokens - tokens) * settings.price / 1_000_000:
                    keep_endpoint_account(self._home, "embedder", cost)
        return found

    def _embedded(self, client: EndpointClient, texts: list[str]) -> dict[str, Any]:
        """The vectors of texts, without refused ones."""
        asked = self._asked(client, texts)
        known = [row for row, vector in enumerate(asked) if vector.any()]
        found = [texts[row] for row in known]
        vectors: np.ndarray[Any, Any] = asked[known]
        if self._kept and found:
            vectors = vectors.astype(np.float16)
            self._kept.keep(found, vectors)
        return dict(zip(found, vectors, strict=True))

    def _asked(self, client: EndpointClient, texts: list[str]) -> NDArray[np.float32]:
        sends_dimensions = self._takes_dimensions
        body = {"model": self._model, "input": texts} | ({"dimensions": self.dimensions} if sends_dimensions else {})
        try:
            found, tokens = client.embed(body)
        except httpx.HTTPStatusError as error:
            said, status = error.response.text.lower(), error.response.status_code
            if status not in {*REFUSING_STATUS, TOO_LARGE_STATUS}:
                raise self._failure(client, error) from error
            taken = self._answers and self._takes_dimensions
            if sends_dimensions and not taken and "dimension" in said:
                self._takes_dimensions = False
                return self._asked(client, texts)
            half = len(texts) // 2
            if half:
                return np.vstack([self._asked(client, texts[:half]), self._asked(client, texts[half:])])
            if len(texts[0]) > 1 and (status == TOO_LARGE_STATUS or TOO_LONG.search(said)):
                return self._asked(client, [texts[0][: len(texts[0]) // 2]])
            if not self._answers:
                if texts == [PLAIN]:
                    raise BadInput(f"{self._url} refuses every text: {client.what_happened(error)}") from error
                self._asked(client, [PLAIN])
            said = client.what_happened(error)
            log.warning("%s refuses a text, which is found only by its words: %s", self._url, said)
            return np.zeros((1, self.dimensions), np.float32)
        except httpx.HTTPError as error:
            raise self._failure(client, error) from error
        with self._lock:
            self._answers, self._tokens = True, self._tokens + tokens
        return self._checked(found)

    def _checked(self, found: list[list[float]]) -> NDArray[np.float32]:
        if (wrong := next((len(one) for one in found if len(one) != self.dimensions), None)) is not None:
            raise BadInput(
                f"{self._model} at {self._url} gives vectors of {wrong} numbers, and `dimensions` of the embedder is "
                f"{self.dimensions}"
            )
        vectors = np.array(found, np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            raise BadInput(
                f"{self._model} at {self._url} returns vectors whose length is zero or not finite; use another model"
            )
        return np.asarray(vectors / lengths, np.float32)

    def _failure(self, client: EndpointClient, error: httpx.HTTPError) -> BadInput | BadEnvironment:
        ask = (
            "Are the endpoint of retrieval.embedder and the password of its connection right?"
            if self._named
            else "The application's file names no such endpoint, so no key was sent: the index was made with another embedder"
        )
        return client.failure(f"the embedder {self._model} at {self._url} gave no answer", error, ask)
