"""`nightshift alerts test`: sends one alert of each kind along the routes of an application, and prints the results."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from nightshift.errors import BadEnvironment
from nightshift.settings.application import Application
from nightshift.settings.applications import load_application
from nightshift.settings.people import Route


def try_routes(name: str) -> bool:
    """Send the alerts, and print the result of each route; return whether all routes took all messages.

    It runs in a shell with Airflow's environment, or in a checkout whose local stack was started.

    :raises BadApplication: the application's file is missing or wrong.
    :raises BadEnvironment: there is no Airflow.
    """
    app = load_application(name)
    _enter_airflow()
    lines = list(_sent(app))
    for line, _ in lines:
        print(line)  # noqa: T201  (a command for people)
    return all(well for _, well in lines)


def _sent(app: Application) -> Iterator[tuple[str, bool]]:
    from nightshift.alerts.channels import NotDelivered, send
    from nightshift.alerts.delivery import SEND_SECONDS
    from nightshift.alerts.message import compose
    from nightshift.alerts.outbox import MAILBOX, Outbox, route_key
    from nightshift.alerts.samples import samples
    from nightshift.orchestration.attempt import storage_uri
    from nightshift.orchestration.links import application_page

    # The line of each route has its result; the logs of Airflow and Apprise would hide it.
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.CRITICAL)
    now = datetime.now(UTC)
    alerts = samples(app.name, {"Nightshift": application_page(app.name)}, now)
    outbox = Outbox(storage_uri(), app.name)
    for alert in alerts:
        outbox.into_mailbox(compose([alert], MAILBOX), now)
    yield f"mailbox of the dashboard: {len(alerts)} messages", True
    if not app.alerts.routes:
        yield f"{app.name} has no routes: nothing is sent (alerts.routes in its file)", True
    for route in app.alerts.routes:
        wanted = [alert for alert in alerts if route.takes(alert.kind, alert.severity)]
        took, trouble = 0, ""
        for alert in wanted:
            try:
                send(route, compose([alert], route_key(route)), SEND_SECONDS)
                took += 1
            except NotDelivered as error:
                trouble = str(error)
                break
        kinds = "all kinds" if len(wanted) == len(alerts) else f"{len(wanted)} of {len(alerts)} kinds come here"
        said = f"{_named(route)}: took {took} of {len(wanted)} messages ({kinds})"
        yield f"{said}; then: {trouble}" if trouble else said, not trouble


def _named(route: Route) -> str:
    return f"{route.to} to {', '.join(route.mail)}" if route.mail else route.to


def _enter_airflow() -> None:
    """Set up the Airflow of this shell or of the local stack, before Airflow is imported, so that its connections are readable.

    :raises BadEnvironment: there is neither. Airflow would silently create an empty one.
    """
    # Airflow reads connections from its database only in a process with this setting.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    if "AIRFLOW_HOME" in os.environ:
        return
    from nightshift.stack.environment import airflow_environment
    from nightshift.stack.place import this_place

    with suppress(BadEnvironment):
        place = this_place()
        if place.home.is_dir():
            os.environ.update(airflow_environment(place))
    configured = any(name.startswith("AIRFLOW_") for name in os.environ)
    if not configured and not Path("~/airflow/airflow.cfg").expanduser().exists():
        raise BadEnvironment("no Airflow found: run this in Airflow's environment, or after `nightshift up`")
