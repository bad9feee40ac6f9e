"""A mail server and a receiver of webhooks, both real, and an outbox."""

import email
import email.policy
import json
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from aiosmtpd.controller import Controller
from told import hook_connection, mail_connection, unused_port

from nightshift.alerts.delivery import deliver
from nightshift.alerts.outbox import Outbox


class Mails:
    """What the mail server took, as parsed mails; `answer` is what it says to the next."""

    def __init__(self, port):
        self.port, self.taken, self.answer = port, [], "250 OK"

    async def handle_RCPT(self, _server, _session, envelope, address, _options):
        if address.startswith("nobody"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, _session, envelope):
        if self.answer.startswith("250"):
            self.taken.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return self.answer


class Hook(ThreadingHTTPServer):
    """What the webhook took; `status` and `delay` (seconds) are how it answers the next."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Requests)
        self.taken, self.status, self.delay, self.answering = [], 200, 0, threading.Event()


class _Requests(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(self.server.delay)
        if self.server.status == 200:
            self.server.taken.append(body)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def mails(monkeypatch):
    port = unused_port()
    server = Mails(port)
    controller = Controller(server, hostname="127.0.0.1", port=port)
    controller.start()
    monkeypatch.setenv("AIRFLOW_CONN_OPS_MAIL", mail_connection(port))
    yield server
    controller.stop()


@pytest.fixture
def hook(monkeypatch):
    server = Hook()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("AIRFLOW_CONN_HOOK", hook_connection(server.server_address[1]))
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def outbox(tmp_path):
    return Outbox(tmp_path.as_uri(), "bank")


@pytest.fixture
def drain(outbox):
    """Deliver what waits, as the DAG does."""
    return lambda app: deliver(app, outbox, seconds=60, rest_after_trouble=timedelta(0))
