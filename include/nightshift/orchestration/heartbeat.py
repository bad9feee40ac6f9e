"""Tells somebody outside that Airflow lives: who listens there notices when it does not, which nobody in here can."""

from __future__ import annotations

import logging
from http.client import HTTPException
from urllib.error import HTTPError
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
    address = connection.password or connection.get_uri()
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
