"""Sends a message along a route: mail through the provider's SmtpHook, everything else through Apprise."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from nightshift.alerts.alert import Alert
from nightshift.alerts.message import Message, compose
from nightshift.settings.people import Route, Severity
from nightshift.shown import shown

LONGEST_ERROR = 400  # characters
# Apprise services that programs read: mentions in texts are not escaped there.
READ_BY_PROGRAMS = {"json", "jsons", "xml", "xmls", "form", "forms"}

log = logging.getLogger(__name__)


class NotDelivered(Exception):
    """A route did not accept a message; the text says why, without secrets."""


def send(route: Route, message: Message, seconds: float) -> None:
    """Send a message along a route within a time limit.

    :raises NotDelivered: the route refused it, or did not answer in time.
    """
    from airflow.sdk.bases.hook import BaseHook

    try:
        connection = BaseHook.get_connection(route.to)
    except Exception as error:  # each secrets backend has errors of its own
        raise NotDelivered(
            f"the connection {route.to!r} cannot be read ({type(error).__name__}): add it to Airflow"
        ) from None
    if connection.conn_type == "smtp":
        work: Callable[[], None] = lambda: _mail(route, message)  # noqa: E731
    elif connection.conn_type == "apprise":
        work = lambda: _notify(connection, message, seconds)  # noqa: E731
    else:
        raise NotDelivered(
            f"connection {route.to!r} is of type {connection.conn_type!r}; a route needs smtp or apprise"
        )
    try:
        _within(seconds, work)
    except NotDelivered as error:
        raise NotDelivered(_without_secrets(str(error), connection)) from None
    except Exception as error:  # each mail server and service has errors of its own
        said = _without_secrets(f"{type(error).__name__}: {error}", connection)
        raise NotDelivered(said) from None


def mail_of(route: Route, message: Message, sender: str) -> EmailMessage:
    """Return a message as a mail with plain text and HTML. A repeated mail has the same Message-ID."""
    mail = EmailMessage()
    mail["Subject"] = message.subject
    mail["From"] = sender
    mail["To"] = ", ".join(route.mail)
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Message-ID"] = f"<{message.id}.{message.application}@nightshift>"
    # Mail programs show what belongs to one interval as one conversation.
    thread = hashlib.sha256(f"{message.application} {message.group or message.id}".encode()).hexdigest()[:20]
    mail["References"] = f"<{thread}.{message.application}@nightshift>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Nightshift-Application"] = message.application
    if message.severity is Severity.CRITICAL and not message.good:
        mail["Importance"] = "high"
    mail.set_content(message.text)
    mail.add_alternative(message.html, subtype="html")
    return mail


def _mail(route: Route, message: Message) -> None:
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    if not route.mail:
        raise NotDelivered(f"the route to {route.to!r} has no `mail` addresses")
    with SmtpHook(smtp_conn_id=route.to) as hook:
        if not hook.from_email:
            raise NotDelivered(f"connection {route.to!r} has no `from_email` in its extra")
        # The hook's own method sends no plain text and tries six times; its client is logged in and uses its TLS settings.
        refused = hook._smtp_client.send_message(mail_of(route, message, hook.from_email))
    if refused:
        # The other addresses have the mail; sending it again would bother them for one wrong address.
        log.warning("the mail server of %s refused %s; correct the route", route.to, ", ".join(refused))


def _notify(connection: Any, message: Message, seconds: float) -> None:
    import apprise
    from apprise.plugins.pagerduty import NotifyPagerDuty

    services = apprise.Apprise()
    for url in _urls(connection):
        if not services.add(url):
            raise NotDelivered(f"connection {connection.conn_id!r} holds an address that Apprise does not understand")
    if not len(services):
        raise NotDelivered(f"connection {connection.conn_id!r} names no service: fill in `config`")
    for service in services:
        if service.overflow_mode is apprise.OverflowMode.UPSTREAM:
            service.overflow_mode = apprise.OverflowMode.TRUNCATE
        if not isinstance(service, NotifyPagerDuty):
            _to_service(service, message, seconds)
            continue
        # One incident for each condition, also of grouped alerts, so that its end (action=map) resolves it.
        given = service.dedup, service.click
        for alert in message.alerts:
            service.dedup = given[0] or _incident(alert)
            service.click = given[1] or next(iter(alert.links.values()), None)
            _to_service(service, compose([alert], message.route), seconds)


def _to_service(service: Any, message: Message, seconds: float) -> None:
    import apprise

    alone = apprise.Apprise()
    alone.add(service)
    form = service.resolve_format(None)
    result = alone.notify(
        body=_body(message, form.value, service),
        title=_calling_nobody(message.subject, service),
        body_format=form,
        notify_type=_type_of(message),
        timeout=seconds,
    )
    if not result:
        logs = [entry.message for one in result.results for entry in one.logs() if entry.level != "INFO"]
        said = "; ".join(dict.fromkeys(logs)) or result.status.name.lower()
        raise NotDelivered(f"{service.service_name}: {said}")


def _body(message: Message, form: str, service: Any) -> str:
    """The form that a service shows."""
    if form == "html":
        return message.html
    return _calling_nobody(message.markdown if form == "markdown" else message.text, service)


def _calling_nobody(text: str, service: Any) -> str:
    """The text without mentions for a chat; unchanged for programs."""
    programs = set(filter(None, [service.protocol, service.secure_protocol])) & READ_BY_PROGRAMS
    return text if programs else text.replace("@", "@\u200b")


def _type_of(message: Message) -> str:
    if message.good:
        return "success"
    return {Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "failure"}[message.severity]


def _incident(alert: Alert) -> str:
    """The incident key that the alerts about a condition share with its recovery."""
    return hashlib.sha256(json.dumps([alert.application, alert.condition or alert.id]).encode()).hexdigest()[:32]


def _urls(connection: Any) -> list[str]:
    config = connection.extra_dejson.get("config")
    try:
        config = json.loads(config) if isinstance(config, str) else config
        entries = config if isinstance(config, list) else [config] if config else []
        return [str(entry["path"]) for entry in entries]
    except (ValueError, KeyError, TypeError):
        raise NotDelivered(
            f"the `config` of connection {connection.conn_id!r} is not {{'path': URL}} or a list of such"
        ) from None


def _within(seconds: float, work: Callable[[], None]) -> None:
    """Run something in a thread with a time limit, which also holds for servers that send byte by byte."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise NotDelivered(f"no answer within {seconds:.0f} seconds")
    if failed:
        raise failed[0]


def _without_secrets(text: str, connection: Any) -> str:
    """The text on one line, without any part of the connection's password and extra."""
    found = [connection.password or ""]
    for value in _texts(connection.extra_dejson):
        found += [value, *re.split(r"[/?&=@:;,\s\"'{}\[\]]+", value)]
    for secret in sorted({one for one in found if len(one) >= 4}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return shown(text, LONGEST_ERROR)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _texts(inner)]
    return [value] if isinstance(value, str) else []
