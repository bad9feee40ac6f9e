"""What `nightshift audit` says, prints and returns."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from audit_logs import NOW, files_of, place, written

from nightshift.audit.anchoring import anchor_end
from nightshift.cli import main
from nightshift.errors import ExitCode


@pytest.fixture
def log(tmp_path, monkeypatch):
    """A log with an anchor, and the options that name both; the second collection is not anchored yet."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
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
    assert told.endswith("nothing is wrong\n")


def test_tampering_is_an_error_with_its_place(log, capsys):
    storage, options = log
    (file,) = files_of(storage)
    file.write_text(file.read_text().replace("alice", "mallo", 1))
    assert main(["audit", "verify", *options]) == ExitCode.FAILED
    assert f"WRONG entry 2 was edited: {file} line 2" in capsys.readouterr().out


def test_without_anchors_nothing_is_called_whole(log, tmp_path, capsys):
    storage, _ = log
    assert main(["audit", "verify", "--storage", storage.as_uri()]) == ExitCode.BAD_INPUT
    assert "without its anchors a log that was cut off looks whole" in capsys.readouterr().err
    elsewhere = (tmp_path / "nothing").as_uri()
    assert main(["audit", "verify", "--storage", storage.as_uri(), "--anchor", elsewhere]) == ExitCode.BAD_ENVIRONMENT
    told = capsys.readouterr().out
    assert f"no anchor in {elsewhere} is of a log in {storage.as_uri()}; it holds none" in told
    assert "whether it is all is not known" in told


@pytest.mark.parametrize("also", [[], ["--anchor", "memory://nothing-here"]])
def test_a_log_that_is_not_where_it_was_anchored_is_never_called_whole(log, also, capsys):
    storage, options = log
    shutil.rmtree(storage / "audit")
    for address in (str(storage), f"{storage.as_uri()}-typo"):
        assert main(["audit", "verify", *options, "--storage", address, *also]) == ExitCode.BAD_ENVIRONMENT
        told = capsys.readouterr().out
        assert "nothing is wrong" not in told
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
