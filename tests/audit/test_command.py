"""What `nightshift audit` says, prints and returns."""

import json
import os
import shutil
import subprocess
import sys
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from audit_logs import KEY, NOW, OTHER_KEY, OTHER_PUBLIC, PUBLIC, anchor_end, event, files_of, memory, place, written

from nightshift.audit.chain import Chain
from nightshift.audit.signature import public_key_of, signing_key
from nightshift.cli import main
from nightshift.errors import ExitCode
from nightshift.stack.credentials import stack_keys
from nightshift.stack.place import this_place


@pytest.fixture
def log(tmp_path, monkeypatch):
    """A log with an anchor, and the options that name both; the second collection is not anchored yet."""
    for name in ("MLFLOW_TRACKING_URI", "AIRFLOW_CONN_NIGHTSHIFT_AIRFLOW"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path / "no-stack"))
    storage = tmp_path / "storage"
    chain = written(storage.as_uri(), (2,))
    anchor_end(chain, place(tmp_path / "anchors"), NOW)
    return storage, ["--storage", storage.as_uri(), "--anchor", (tmp_path / "anchors").as_uri()]


def test_a_whole_log_is_told_in_words(log, capsys):
    storage, options = log
    assert main(["audit", "verify", *options]) == ExitCode.OK
    told = capsys.readouterr().out
    assert f"{storage.as_uri()}/audit: 4 entries in 1 files" in told
    assert "anchors that agree with it: 1, the newest is that of entry 4" in told
    assert told.splitlines()[-1] == "verified"


def test_tampering_is_an_error_with_its_place(log, capsys):
    storage, options = log
    (file,) = files_of(storage)
    file.write_text(file.read_text().replace("alice", "mallo", 1))
    assert main(["audit", "verify", *options]) == ExitCode.FAILED
    told = capsys.readouterr().out
    assert f"WRONG entry 2 was edited: {file} line 2" in told
    assert told.splitlines()[-1] == "tampered"


def test_without_anchors_nothing_is_called_whole(log, tmp_path, capsys):
    storage, _ = log
    where = ["audit", "verify", "--storage", storage.as_uri()]
    assert main(where) == ExitCode.BAD_ENVIRONMENT
    told = capsys.readouterr().out
    assert "no place of anchors was asked: name --mlflow, --anchor or both" in told
    assert told.splitlines()[-1] == "unwitnessed"
    elsewhere = (tmp_path / "nothing").as_uri()
    assert main([*where, "--anchor", elsewhere]) == ExitCode.BAD_ENVIRONMENT
    told = capsys.readouterr().out
    assert f"no anchor in {elsewhere} is of a log in {storage.as_uri()}; it holds none" in told
    assert told.splitlines()[-2:] == ["what is there holds together; whether it is all is not known", "unwitnessed"]


def test_with_a_public_key_only_what_it_signed_is_a_witness(log, tmp_path, capsys):
    storage, options = log
    keys = tmp_path / "keys"
    keys.write_text(f"{PUBLIC}\n")
    with_key = ["audit", "verify", *options, "--public-key", str(keys)]
    assert main(with_key) == ExitCode.BAD_ENVIRONMENT
    assert f"no anchor in {options[-1]} is signed by a key that was given" in capsys.readouterr().out
    chain = Chain(storage.as_uri())
    for hour, key in ((1, KEY), (2, OTHER_KEY)):
        moment = NOW + timedelta(hours=hour)
        chain.append("airflow", [event(20 + hour, at=moment)], moment)
        anchor_end(chain, place(tmp_path / "anchors"), moment, key)
        assert main(with_key) == (ExitCode.OK if key is KEY else ExitCode.FAILED)
    assert main([*with_key, "--public-key", OTHER_PUBLIC]) == ExitCode.OK
    assert main([*with_key, "--public-key", "nothing"]) == ExitCode.BAD_INPUT


def test_the_public_key_is_that_of_the_environment_or_of_the_local_stack(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path / "stack"))
    monkeypatch.delenv("NIGHTSHIFT_AUDIT_KEY", raising=False)
    assert main(["audit", "public-key"]) == ExitCode.BAD_INPUT
    assert "NIGHTSHIFT_AUDIT_KEY is not set, and there is no local stack" in capsys.readouterr().err
    (tmp_path / "stack").mkdir()
    assert main(["audit", "public-key"]) == ExitCode.OK
    told = capsys.readouterr().out.strip()
    assert told == public_key_of(signing_key(stack_keys(this_place())["audit_key"]))
    monkeypatch.setenv("NIGHTSHIFT_AUDIT_KEY", f"{'A' * 43}=")
    assert main(["audit", "public-key"]) == ExitCode.OK
    assert capsys.readouterr().out.strip() == PUBLIC


class Airflow(BaseHTTPRequestHandler):
    """Answers as Airflow's REST API does: lets everybody in, and knows the variables of the server."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"access_token": "t"})

    def do_GET(self):
        value = self.server.variables.get(self.path.rpartition("/")[2].removeprefix("nightshift_audit_"))
        self.answer({"value": value} if value else {"detail": "not found"}, 200 if value else 404)

    def answer(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def airflow():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Airflow)
    server.variables = {}
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_airflow_is_asked_what_it_remembers_and_finds_out_who_replaced_log_and_anchors(
    log, tmp_path, airflow, capsys, monkeypatch
):
    storage, options = log
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_AIRFLOW", f"http://a:b@127.0.0.1:{airflow.server_address[1]}")
    verify = ["audit", "verify", *options]
    assert main(verify) == ExitCode.BAD_ENVIRONMENT
    assert f"no anchor in Airflow is of a log in {storage.as_uri()}; it holds none" in capsys.readouterr().out
    anchor_end(Chain(storage.as_uri()), memory(airflow.variables), NOW)
    assert main(verify) == ExitCode.OK
    for folder in (storage / "audit", tmp_path / "anchors"):
        shutil.rmtree(folder)
    anchor_end(written(storage.as_uri(), (5,)), place(tmp_path / "anchors"), NOW)
    assert main(verify) == ExitCode.FAILED
    assert "entry 4 was anchored in Airflow" in capsys.readouterr().out
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_AIRFLOW", "http://a:b@127.0.0.1:9")
    assert main(verify) == ExitCode.BAD_ENVIRONMENT
    assert "the anchors in Airflow cannot be read" in capsys.readouterr().out


def test_in_a_checkout_the_airflow_of_the_local_stack_is_asked(tmp_path, airflow, capsys, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path))
    monkeypatch.setenv("NIGHTSHIFT_AIRFLOW_PORT", str(airflow.server_address[1]))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    anchor_end(written((tmp_path / "storage").as_uri(), (2,)), memory(airflow.variables), NOW)
    assert main(["audit", "verify"]) == ExitCode.BAD_ENVIRONMENT
    told = capsys.readouterr().out
    assert "anchors that agree with it: 1, the newest is that of entry 4" in told
    assert "the anchors in MLflow cannot be read" in told
    assert "in Airflow" not in told


@pytest.mark.parametrize("also", [[], ["--anchor", "memory://nothing-here"]])
def test_a_log_that_is_not_where_it_was_anchored_is_never_called_whole(log, also, capsys):
    storage, options = log
    shutil.rmtree(storage / "audit")
    for address in (str(storage), f"{storage.as_uri()}-typo"):
        assert main(["audit", "verify", *options, "--storage", address, *also]) == ExitCode.BAD_ENVIRONMENT
        told = capsys.readouterr().out
        assert told.splitlines()[-1] == "unwitnessed"
        assert ("it holds none" if also else f"those there are of {storage.as_uri()}") in told
    assert main(["audit", "verify", *options]) == ExitCode.FAILED


def test_an_mlflow_that_is_down_is_told_and_the_log_is_looked_at_all_the_same(log, capsys, monkeypatch):
    _, options = log
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert main(["audit", "verify", *options]) == ExitCode.BAD_ENVIRONMENT
    told = capsys.readouterr().out
    assert "the anchors in MLflow cannot be read" in told
    assert "anchors that agree with it: 1" in told
    assert told.splitlines()[-1] == "unwitnessed"


def test_the_export_is_the_lines_of_the_log_that_are_asked_for(log, capsys):
    storage, _ = log
    where = ["audit", "export", "--storage", storage.as_uri()]
    assert main(where) == ExitCode.OK
    assert capsys.readouterr().out == files_of(storage)[0].read_text()
    main([*where, "--application", "shop", "--since", NOW.isoformat(), "--until", "2026-11-24T06:00:01"])
    assert [json.loads(line)["to"]["run"] for line in capsys.readouterr().out.splitlines()] == [
        "manual__0",
        "manual__1",
    ]
    main([*where, "--until", NOW.isoformat(), "--application", "shop"])
    assert capsys.readouterr().out == ""
    assert main([*where, "--since", "yesterday"]) == ExitCode.BAD_INPUT
    assert "--since yesterday: not a time" in capsys.readouterr().err


@pytest.mark.slow
def test_a_reader_that_has_enough_is_no_error(tmp_path):
    written(tmp_path.as_uri(), (800,))
    command = [sys.executable, "-m", "nightshift", "audit", "export", "--storage", tmp_path.as_uri()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
