"""The sign of life: every form of address that such services give, and secrets backends that fail."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from airflow.sdk import Connection

from nightshift.orchestration.heartbeat import beat

ADDRESSES = ["/uuid", "/ping-key/slug", "/api/push/TOKEN?status=up&msg=OK"]


class _Get(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def service():
    server = HTTPServer(("127.0.0.1", 0), _Get)
    server.asked = []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_the_address_of_every_service_is_called_as_it_is_whether_password_or_uri(service, monkeypatch):
    for path in ADDRESSES:
        address = f"http://127.0.0.1:{service.server_port}{path}"
        for connection in (address, json.dumps({"conn_type": "http", "password": address})):
            monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_HEARTBEAT", connection)
            beat()
    assert service.asked == [path for path in ADDRESSES for _ in range(2)]


def test_a_secrets_backend_that_fails_fails_no_look(monkeypatch, caplog):
    def away(_name):
        raise PermissionError("S3CRET")

    monkeypatch.setattr(Connection, "get", away)
    beat()
    assert "nightshift_heartbeat cannot be read (PermissionError)" in caplog.text
    assert "S3CRET" not in caplog.text
