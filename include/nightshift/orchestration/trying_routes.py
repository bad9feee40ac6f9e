"""`nightshift alerts test`: sends one alert of each kind along the routes of an application, and says what came of it."""

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
    """Send, and print what each route took; return whether all of them took everything.

    It runs in a shell with Airflow's environment. In a checkout whose local stack was started it needs none.

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

    # What a route said stands in its line; what Airflow and Apprise log of each step would hide it.
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
    """Make the connections of an Airflow readable here, before Airflow is imported: of this shell, or of the local stack.

    :raises BadEnvironment: there is neither. Airflow would make an empty one, and messages would go where nobody looks.
    """
    # Only a process that says so reads connections from Airflow's database; one of the environment needs no database.
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
        raise BadEnvironment("there is no Airflow here: call this in its environment, or after `nightshift up`")
