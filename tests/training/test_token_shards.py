"""Tokens of a snapshot are made once, in parts, and are the same bytes whoever makes them and however often it is killed."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from upath import UPath

from nightshift.errors import BadEnvironment, BadInput, Preempted
from nightshift.settings.application import Prompt
from nightshift.storage import sharing
from nightshift.storage.partition import read_manifest
from nightshift.training import token_shards
from nightshift.training.layout import Layout
from nightshift.training.token_files import LEARNED, Examples
from nightshift.training.token_shards import TokenShards, tokenized

ROWS = 95  # eight parts of training rows of twelve, and one of held-out rows
PROMPT = Prompt(system="Name the intent.")


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(token_shards, "ROWS_A_PART", 12)
    monkeypatch.setattr(token_shards, "ROWS_AT_ONCE", 5)
    monkeypatch.setattr(sharing, "POLL_SECONDS", 0.05)


def turns(number):
    return [
        {"role": "user", "content": f"{'please ' * (number % 5)}help {number}"},
        {"role": "assistant", "content": f"intent {number % 3}"},
    ]


@pytest.fixture
def shards(tmp_path, tokenizer):
    """A function that gives the tokens of a snapshot, in row groups of 10, in a storage of its own."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tokenizer.save_pretrained(tmp_path / "base")
    for name, first, count in (("train", 0, ROWS), ("held_out", 1000, 200)):
        rows = [{"digest": f"{number:04}", "messages": turns(number)} for number in range(first, first + count)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet", row_group_size=10)

    def of(name="storage", **other):
        given = {
            "storage": (tmp_path / name).as_uri(),
            "application": "app",
            "snapshot": (f"{(tmp_path / name).as_uri()}/snapshot", "5" * 64),
            "train": tmp_path / "train.parquet",
            "held_out": tmp_path / "held_out.parquet",
            "tokenizer": tmp_path / "base",
            "prompt": PROMPT,
        }
        return TokenShards(**{**given, **other})

    return of


def made(shards, tmp_path, layout=None, report=lambda done, of: None):
    return tokenized(shards, layout or Layout(), report, tmp_path / "copies")


def content(shards):
    """What a storage has of some tokens: the digest of each part."""
    return {name: read_manifest(shards.place / name).digest for name in map(str, _parts(shards))}


def _parts(shards):
    return sorted(path.name for path in UPath(shards.place).iterdir() if path.name != "used")


def test_every_row_is_in_its_place_and_held_out_rows_are_the_first(shards, tmp_path, tokenizer, small_parts):
    files = made(shards(), tmp_path)
    assert len(files.train) == 8
    train, held_out = Examples(files.train), Examples(files.held_out)
    assert (len(train), len(held_out)) == (ROWS, token_shards.HELD_OUT_EXAMPLES)
    for examples, first in ((train, 0), (held_out, 1000)):
        for number in range(len(examples)):
            tokens = examples[number]
            learned = tokenizer.decode((tokens & ~LEARNED)[tokens >= LEARNED])
            assert learned == f"intent {(first + number) % 3}<|end|>"
            assert f"help {first + number}<|end|>" in tokenizer.decode(tokens[tokens < LEARNED])
    assert tokenizer.decode(files.prefix) == "<|start|>system\nName the intent.<|end|>\n<|start|>user\n"


def test_what_is_there_is_not_made_again(shards, tmp_path, small_parts, monkeypatch):
    first = made(shards(), tmp_path)
    monkeypatch.setattr(TokenShards, "make", None)
    assert made(shards(), tmp_path) == first


@pytest.mark.parametrize(
    "other", [{"prompt": Prompt(system="Other.")}, {"snapshot": ("elsewhere", "6" * 64)}, {"tokenizer": "base-2"}]
)
def test_what_determines_the_tokens_is_in_their_address(shards, tmp_path, tokenizer, other):
    if "tokenizer" in other:
        folder = tmp_path / other["tokenizer"]
        tokenizer.save_pretrained(folder)
        (folder / "chat_template.jinja").write_text(tokenizer.chat_template + "{# another #}")
        other = {"tokenizer": folder}
    assert shards(**other).place != shards().place == shards().place


def test_two_nodes_leave_the_bytes_of_one(shards, tmp_path, small_parts):
    made(shards("alone"), tmp_path)
    together, said = shards("together"), []
    files = {}

    def node(number):
        layout = Layout(nodes=2, node=number, rendezvous="here:1")
        files[number] = made(together, tmp_path, layout, lambda done, of: said.append((done, of)))

    threads = [threading.Thread(target=node, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert files[0] == files[1]
    assert content(together) == content(shards("alone"))
    # Each node first tells of its own rows: 4 or 5 parts of 9.
    assert {of for _, of in said} <= {4 * 12, 4 * 12 - 1 + 128, ROWS + 128}


PROGRAM = """
import os, signal, sys
from pathlib import Path
from nightshift.settings.application import Prompt
from nightshift.storage import partition
from nightshift.training import token_shards
from nightshift.training.layout import Layout
token_shards.ROWS_A_PART = 12
kept, calls = partition.{function}, []
def last_words(*arguments, **keywords):
    calls.append(1)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return kept(*arguments, **keywords)
partition.{function} = last_words
there = Path({there!r})
shards = token_shards.TokenShards((there / "killed").as_uri(), "app", ((there / "killed").as_uri() + "/snapshot", "5" * 64),
    there / "train.parquet", there / "held_out.parquet", there / "base", Prompt(system="Name the intent."))
token_shards.tokenized(shards, Layout(), lambda done, of: None, there / "copies")
"""


@pytest.mark.parametrize(("function", "call"), [("put", 4), ("create", 3)])
def test_killed_at_any_line_and_run_again_it_leaves_the_same_bytes(shards, tmp_path, small_parts, function, call):
    program = PROGRAM.format(function=function, call=call, there=str(tmp_path))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    died = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert died.returncode == -signal.SIGKILL
    killed = shards("killed")
    assert sum(killed.find(*part) is not None for part in killed.parts) == call // 2
    made(killed, tmp_path)
    made(shards("straight"), tmp_path)
    assert content(killed) == content(shards("straight"))


def test_processes_leave_the_bytes_of_one_and_end_when_they_are_stopped(shards, tmp_path, small_parts, monkeypatch):
    """The parts are those of the setting here; in the other processes it is as it was, so they are told what to make."""
    import multiprocessing

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    said = []
    made(shards("many"), tmp_path, report=lambda done, of: said.append((done, of)))
    assert said[-1] == (ROWS + 128, ROWS + 128)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made(shards("one"), tmp_path)
    assert content(shards("many")) == content(shards("one"))

    monkeypatch.setenv("OMP_NUM_THREADS", "2")

    def stop(_done, _of):
        raise Preempted("stopped")

    with pytest.raises(Preempted):
        made(shards("stopped"), tmp_path, report=stop)
    until = time.monotonic() + 20
    while multiprocessing.active_children() and time.monotonic() < until:
        time.sleep(0.1)
    assert not multiprocessing.active_children()


def test_a_row_that_the_template_refuses_is_named(shards, tmp_path, tokenizer):
    (tmp_path / "base" / "chat_template.jinja").write_text("{{ raise_exception('System role not supported') }}")
    token_shards._loaded.cache_clear()
    with pytest.raises(BadInput, match="example 0000: .*System role not supported"):
        made(shards(), tmp_path)


def test_a_snapshot_without_rows_is_refused(shards, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(tmp_path / "train.parquet").slice(0, 0), tmp_path / "none.parquet")
    assert pa.Table is not None
    with pytest.raises(BadInput, match="the snapshot has 95 training and 0 held-out examples; both are needed"):
        made(shards(held_out=tmp_path / "none.parquet"), tmp_path)


def test_a_damaged_part_is_made_again_by_the_next_attempt(shards, tmp_path, small_parts):
    first = made(shards(), tmp_path)
    expected = content(shards())
    damaged = first.train[3] / "tokens.npy"
    damaged.write_bytes(damaged.read_bytes()[:-4] + b"evil")
    with pytest.raises(BadEnvironment, match="SHA-256 .* the next attempt makes these tokens again"):
        made(shards(), tmp_path)
    made(shards(), tmp_path)
    assert content(shards()) == expected


def test_tokens_that_no_training_used_for_a_week_go(shards, tmp_path, small_parts, monkeypatch):
    old, recent = shards(prompt=Prompt(system="Old.")), shards(prompt=Prompt(system="Recent."))
    for each in (old, recent):
        made(each, tmp_path)
    (old.place / "used").write_text("2026-01-01T00:00:00+00:00")
    made(shards(), tmp_path)
    assert not old.place.exists()
    assert content(recent)
    assert content(shards())
