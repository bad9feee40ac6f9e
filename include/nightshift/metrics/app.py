"""The application that the plugin mounts at `/nightshift`: the endpoint `/metrics` for Prometheus, and the dashboard.

Airflow's logins expire, so the endpoint has a token of its own in the environment variable `NIGHTSHIFT_METRICS_TOKEN`. Without
it there is no endpoint.
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
SHORTEST = 16  # characters, since guesses are not limited

app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
scrapes = Scrapes()
registry = CollectorRegistry()
registry.register(scrapes)


@app.get("/metrics")
@in_own_threads
def metrics(request: Request) -> Response:
    """Answer a scrape in the requested format: Prometheus' text or OpenMetrics."""
    token = os.environ.get(TOKEN, "")
    if len(token) < SHORTEST:
        return _refusal(404, f"Metrics are disabled: {TOKEN} is not set, or has fewer than {SHORTEST} characters.")
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not hmac.compare_digest(_digest(given.strip()), _digest(token)):
        return _refusal(401, "The token in the header Authorization is wrong.")
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(registry), headers={**HEADERS, "Content-Type": content_type})


# Everything else below the plugin's address is the dashboard, which requires a login.
app.mount("/", dashboard)


def _refusal(status: int, message: str) -> Response:
    challenge = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
    return PlainTextResponse(f"{message}\n", status, {**HEADERS, **challenge})


def _digest(token: str) -> bytes:
    """A digest, so that the comparison does not reveal the token's length."""
    return hashlib.sha256(token.encode()).digest()
