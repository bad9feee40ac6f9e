"""Airflow's REST API, which housekeeping tasks call as the user of the connection `nightshift_airflow`.

Tasks have no access to Airflow's database; they read other runs through the API, as a user with read permissions only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException

AIRFLOW_CONNECTION = "nightshift_airflow"
PAGE = 100  # entries that one answer holds
WARN_BEFORE = timedelta(days=14)  # a token expires
log = logging.getLogger(__name__)


class AirflowRest:
    """A session with the REST API.

    :raises AirflowNotFoundException: there is no such thing (every method).
    :raises AirflowException: Airflow does not answer, or refuses (every method).
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer of one GET below `/api/v2`."""
        return dict(_answer(self._client.build_request("GET", f"/api/v2/{path}", params=parameters), self._client))

    def variable(self, key: str) -> str | None:
        """Return the value of a variable; None: there is none."""
        with suppress(AirflowNotFoundException):
            return str(self.get(f"variables/{key}")["value"])
        return None

    def all(self, path: str, key: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Yield every entry of a listing, page by page.

        Runs and tasks come by cursor: none is left out because another ended meanwhile. Listings without one come by offset.

        :param key: the field of an answer that holds the entries.
        """
        seen, cursor = 0, ""
        while True:
            answer = self.get(path, limit=PAGE, offset=seen, cursor=cursor, **parameters)
            yield from answer[key]
            seen, cursor = seen + len(answer[key]), answer.get("next_cursor") or ""
            if not cursor and ("next_cursor" in answer or len(answer[key]) < PAGE):
                return


@contextmanager
def airflow_rest() -> Iterator[AirflowRest]:
    """Log in with the connection `nightshift_airflow` (type http: host, port, login, password).

    Without a login its password is a token, as identity providers and `nightshift roles token` make them.

    :raises AirflowException: there is no such connection, Airflow does not let its user in, or the token has expired.
    """
    try:
        connection = Connection.get(AIRFLOW_CONNECTION)
    except AirflowNotFoundException:
        raise AirflowException(
            f"there is no Airflow connection {AIRFLOW_CONNECTION!r}: add one (type http, host and port of the API server, "
            "login and password, or a token alone as password, of a user that may look at every DAG)"
        ) from None
    host = connection.host or "127.0.0.1"
    if "://" not in host:
        host = f"{connection.schema or ('https' if connection.conn_type == 'https' else 'http')}://{host}"
    address = host if connection.port is None else f"{host}:{connection.port}"
    # Inside a cluster the API server is a neighbour: a proxy of the environment has no part in it.
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        if connection.login:
            body = {"username": connection.login, "password": connection.password}
            token = _answer(client.build_request("POST", "/auth/token", json=body), client)["access_token"]
        else:
            token = _valid(connection.password or "")
        client.headers["Authorization"] = f"Bearer {token}"
        yield AirflowRest(client)


def _valid(token: str) -> str:
    """Return the token of the connection, and warn in the task's log when it soon expires."""
    if not token:
        raise AirflowException(f"the Airflow connection {AIRFLOW_CONNECTION!r} has neither a login nor a token")
    # Only the API server can check the signature; some tokens are no JWT and say nothing of their end.
    with suppress(jwt.InvalidTokenError):
        expires = jwt.decode(token, options={"verify_signature": False}).get("exp")
        if expires is not None:
            until = datetime.fromtimestamp(expires, UTC)
            text = f"the token of the Airflow connection {AIRFLOW_CONNECTION!r}"
            if until <= datetime.now(UTC):
                raise AirflowException(f"{text} expired at {until:%Y-%m-%d %H:%M} UTC: put a new one there")
            if until - datetime.now(UTC) < WARN_BEFORE:
                log.warning("%s expires at %s UTC: put a new one there", text, until.strftime("%Y-%m-%d %H:%M"))
    return token


def _answer(request: httpx.Request, client: httpx.Client) -> Any:
    try:
        answer = client.send(request)
    except httpx.HTTPError as error:
        raise AirflowException(f"Airflow at {request.url.copy_with(query=None)} does not answer: {error}") from error
    if not answer.is_success:
        refused = AirflowNotFoundException if answer.status_code == httpx.codes.NOT_FOUND else AirflowException
        raise refused(
            f"Airflow refused {request.method} {request.url.path} ({answer.status_code}): {answer.text[:300]}"
        )
    return answer.json()
