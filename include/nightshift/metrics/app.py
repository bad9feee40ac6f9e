"""What the plugin mounts at `/nightshift`: the endpoint `/metrics` for Prometheus, and the dashboard.

A login of Airflow expires, so it is a token of its own, of the environment variable `NIGHTSHIFT_METRICS_TOKEN`. Without one there
is no endpoint.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from nightshift.dashboard.app import app as dashboard
from nightshift.dashboard.headers import HEADERS
from nightshift.dashboard.own_threads import in_own_threads
from nightshift.metrics.gathering import Scrapes

TOKEN = "NIGHTSHIFT_METRICS_TOKEN"  # noqa: S105  (the name of a variable)
SHORTEST = 16  # characters: who guesses has as many tries as they like

app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
scrapes = Scrapes()
registry = CollectorRegistry()
registry.register(scrapes)


@app.get("/metrics")
@in_own_threads
def metrics(request: Request) -> Response:
    """Answer a scrape in the format that it asks for: Prometheus' text or OpenMetrics."""
    token = os.environ.get(TOKEN, "")
    if len(token) < SHORTEST:
        return _refusal(404, f"There are no metrics here: {TOKEN} is not set, or has fewer than {SHORTEST} characters.")
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not hmac.compare_digest(_digest(given.strip()), _digest(token)):
        return _refusal(401, "The token of the header Authorization is not that of the metrics.")
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(registry), headers={**HEADERS, "Content-Type": content_type})


# Everything else below the plugin's address is the dashboard's, which asks for a login.
app.mount("/", dashboard)


def _refusal(status: int, said: str) -> Response:
    challenge = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
    return PlainTextResponse(f"{said}\n", status, {**HEADERS, **challenge})


def _digest(token: str) -> bytes:
    """Digests have one length, so that comparing them tells nothing of the token's."""
    return hashlib.sha256(token.encode()).digest()
