"""A heartbeat to an external monitor, which raises the alarm when Airflow is down and cannot do so itself."""

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
    """Call the address of the connection `nightshift_heartbeat`, if there is one. Never raises.

    The address is the connection's password or, if that is empty, its URI. It is not logged, since anyone who knows it can
    fake a heartbeat.
    """
    try:
        connection = Connection.get(HEARTBEAT_CONNECTION)
    except AirflowNotFoundException:
        return
    except Exception as error:  # each secrets backend has errors of its own
        log.warning("the connection %s cannot be read (%s)", HEARTBEAT_CONNECTION, type(error).__name__)
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
