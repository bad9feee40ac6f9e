"""The mailbox page: all messages about the applications that the user may see, and pending ones.

Messages about all applications are shown to every user who may see one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response
from upath import UPath

from nightshift.alerts.global_alerts import ALL_APPLICATIONS
from nightshift.alerts.message import Message
from nightshift.alerts.outbox import Outbox, Waiting
from nightshift.dashboard.access import Asking
from nightshift.dashboard.airflow_state import storage_uri
from nightshift.dashboard.application_files import ApplicationFile
from nightshift.dashboard.headers import REPORT_POLICY
from nightshift.dashboard.own_threads import in_own_threads
from nightshift.dashboard.pages import render
from nightshift.dashboard.panels import Panel, panel
from nightshift.storage.files import read_each

NEWEST = 100  # messages on the page
OF_ONE = 200  # newest messages of an application that are searched for one

router = APIRouter()


@dataclass(frozen=True)
class Box:
    """The outbox of one application, as far as the page shows it."""

    name: str
    messages: list[Message]
    waiting: list[Waiting]


@router.api_route("/mailbox", methods=["GET", "HEAD"])
@in_own_threads
def mailbox(request: Request, asking: Asking, application: str | None = None) -> HTMLResponse:
    """Show the newest messages of all applications, or of one."""
    known = [asking.application(application)] if application else asking.applications()
    if known and not application:
        known = [*known, ApplicationFile(ALL_APPLICATIONS, None)]
    storage = storage_uri()
    found = read_each(UPath(storage), lambda one: (one.name, panel(lambda: _box(storage, one))), known)
    boxes: list[Box] = [one.shown for _, one in found if one.shown]
    messages = sorted((one for box in boxes for one in box.messages), key=_sent, reverse=True)[:NEWEST]
    return render(
        request,
        "mailbox.html.jinja",
        application=application,
        all_applications=ALL_APPLICATIONS,
        messages=messages,
        waiting=[(box.name, one) for box in boxes for one in box.waiting],
        troubles=[(name, one.trouble) for name, one in found if one.trouble],
    )


@router.api_route("/mailbox/{application}/{message}", methods=["GET", "HEAD"])
@in_own_threads
def message(request: Request, application: str, message: str, asking: Asking) -> HTMLResponse:
    """Show one message as text and HTML."""
    found = _message(application, message, asking)
    return render(request, "message.html.jinja", message=found, all_applications=ALL_APPLICATIONS)


@router.api_route("/mailbox/{application}/{message}/html", methods=["GET", "HEAD"])
@in_own_threads
def as_html(application: str, message: str, asking: Asking) -> Response:
    """Return the HTML form as a mail program shows it, sandboxed in an opaque origin."""
    policy = REPORT_POLICY.replace("sandbox allow-scripts", "sandbox")
    return HTMLResponse(_message(application, message, asking).html, headers={"Content-Security-Policy": policy})


def _message(application: str, wanted: str, asking: Asking) -> Message:
    if application != ALL_APPLICATIONS or not asking.applications():
        asking.application(application)
    found: Panel[list[Message]] = panel(lambda: Outbox(storage_uri(), application).messages(OF_ONE))
    if found.trouble:
        raise HTTPException(503, found.trouble)
    if one := next((message for message in found.shown or [] if message.id == wanted), None):
        return one
    raise HTTPException(
        404, f"There is no such message of “{application}”, or it is no longer among the newest {OF_ONE}."
    )


def _box(storage: str, known: ApplicationFile) -> Box:
    outbox = Outbox(storage, known.name)
    return Box(known.name, outbox.messages(NEWEST), outbox.waiting(known.settings.alerts) if known.settings else [])


def _sent(message: Message) -> datetime:
    return message.sent or max(alert.at for alert in message.alerts)
