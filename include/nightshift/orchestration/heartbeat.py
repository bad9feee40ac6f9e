"""Tells somebody outside that Airflow lives: who listens there notices when it does not, which nobody in here can."""

from __future__ import annotations

import logging
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

HEARTBEAT_CONNECTION = "nightshift_heartbeat"
SECONDS = 10

log = logging.getLogger(__name__)


def beat() -> None:
    """Call the address of the connection `nightshift_heartbeat`, where there is one. It fails nothing: silence is the sign.

    The address is the connection's password or, where that is empty, its URI. Whoever knows it can feign that all is
    well, so it is in no log.
    """
    try:
        connection = Connection.get(HEARTBEAT_CONNECTION)
    except AirflowNotFoundException:
        return
    except Exception as error:  # each secrets backend has errors of its own
        log.warning("the connection %s cannot be had (%s)", HEARTBEAT_CONNECTION, type(error).__name__)
        return
    address = connection.password or _address(connection.get_uri())
    if not address.startswith(("http://", "https://")):
        log.warning("the connection %s holds no address that begins with http", HEARTBEAT_CONNECTION)
        return
    try:
        with urlopen(address, timeout=SECONDS):  # noqa: S310  (only http, as asked above)
            pass
    except HTTPError as error:
        log.warning("the heartbeat's address answered %d", error.code)
    except (OSError, HTTPException, ValueError) as error:
        log.warning("the heartbeat's address cannot be reached (%s)", type(error).__name__)


def _address(uri: str) -> str:
    """A connection's URI as it was given: Airflow quotes the slashes of its path."""
    parts = urlsplit(uri)
    return parts._replace(path=unquote(parts.path)).geturl()
