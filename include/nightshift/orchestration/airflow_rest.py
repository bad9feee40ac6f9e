"""Airflow's REST API, asked by housekeeping tasks as the user of the connection `nightshift_airflow`.

Tasks do not reach Airflow's database; what they must know of other runs they ask like anybody else, with a user that may
only look.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException

AIRFLOW_CONNECTION = "nightshift_airflow"
PAGE = 100  # entries that one answer holds


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

    :raises AirflowException: there is no such connection, or Airflow does not let its user in.
    """
    try:
        connection = Connection.get(AIRFLOW_CONNECTION)
    except AirflowNotFoundException:
        raise AirflowException(
            f"there is no Airflow connection {AIRFLOW_CONNECTION!r}: add one (type http, host and port of the API server, "
            "login and password of a user that may look at every DAG)"
        ) from None
    host = connection.host or "127.0.0.1"
    if "://" not in host:
        host = f"{connection.schema or ('https' if connection.conn_type == 'https' else 'http')}://{host}"
    address = host if connection.port is None else f"{host}:{connection.port}"
    # Inside a cluster the API server is a neighbour: a proxy of the environment has no part in it.
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        body = {"username": connection.login, "password": connection.password}
        token = _answer(client.build_request("POST", "/auth/token", json=body), client)["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield AirflowRest(client)


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
