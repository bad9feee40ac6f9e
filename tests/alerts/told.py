"""An application that tells people, what it tells them, and the connections that this takes."""

import json
import socket

from nightshift.alerts.alert import Alert
from nightshift.settings.application import Application
from nightshift.settings.people import Kind, Severity


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def mail_connection(port):
    extra = {"disable_ssl": True, "disable_tls": True, "from_email": "nightshift@example.org", "retry_limit": 0}
    return json.dumps({"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra})


def hook_connection(port):
    path = f"json://robot:pass-w0rd@127.0.0.1:{port}/T0KEN/S3CRET"
    return json.dumps({"conn_type": "apprise", "extra": {"config": {"path": path}}})


def application(*routes, **alerts):
    source = {"uri": "/data/x.csv", "columns": {"prompt": "text", "answer": "intent"}}
    return Application(name="bank", sources=[source], alerts={"routes": routes, **alerts})


def drift(night="2026-11-20", **fields):
    return Alert(
        **{
            "application": "bank",
            "kind": Kind.DRIFT,
            "severity": Severity.WARNING,
            "subject": "drift",
            "night": night,
            "title": f"drift in the interval {night}",
            "condition": "drift",
            "cause": "topics",
            **fields,
        }
    )


def passed(night, **fields):
    return drift(night, good=True, cause="", severity=Severity.INFO, title=f"no drift any more: {night}", **fields)
