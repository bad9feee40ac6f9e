"""Tokens of a snapshot are made once, in parts, and are the same bytes whoever makes them and however often it is killed."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from upath import UPath

from nightshift.errors import BadEnvironment, BadInput, Preempted
from nightshift.settings.prompt import Prompt
from nightshift.storage import sharing
from nightshift.storage.manifest import read_manifest
from nightshift.training import token_shards
from nightshift.training.layout import Layout
from nightshift.training.token_files import LEARNED, Examples
from nightshift.training.token_shards import TokenShards, tokenized

pytestmark = pytest.mark.slow

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


@pytest.fixture(scope="module")
def base(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("base")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def refusing(base, tmp_path):
    """A base model whose template refuses every conversation."""
    shutil.copytree(base, tmp_path / "refusing")
    (tmp_path / "refusing" / "chat_template.jinja").write_text("{{ raise_exception('No such role') }}")
    return tmp_path / "refusing"


@pytest.fixture
def shards(tmp_path, base):
    """A function that gives the tokens of a snapshot, in row groups of 10, in a storage of its own."""
    import pyarrow as pa
    import pyarrow.parquet as pq

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
            "tokenizer": base,
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


def test_two_nodes_leave_the_bytes_of_one_also_when_one_of_them_is_stopped(shards, tmp_path, small_parts):
    made(shards("alone"), tmp_path)
    together, said = shards("together"), []
    first, second = (Layout(nodes=2, node=number, rendezvous="here:1") for number in range(2))

    def stop_while_waiting(done, of):
        said.append((done, of))
        if of == ROWS + 128:
            raise Preempted("stopped")

    with pytest.raises(Preempted):
        made(together, tmp_path, second, stop_while_waiting)
    of_its_own = [done for done, of in said if of == 47]
    assert of_its_own == sorted(of_its_own)
    assert len(of_its_own) >= 4
    assert of_its_own[-1] == 47
    assert sum(together.find(*part) is not None for part in together.parts) == 4
    assert made(together, tmp_path, first) == made(together, tmp_path, second)
    assert content(together) == content(shards("alone"))


PROGRAM = """
import os, signal, sys
from pathlib import Path
from nightshift.settings.prompt import Prompt
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
    there / "train.parquet", there / "held_out.parquet", Path({base!r}), Prompt(system="Name the intent."))
token_shards.tokenized(shards, Layout(), lambda done, of: None, there / "copies")
"""


@pytest.mark.parametrize(("dies_at", "whole"), [(("put", 4), 1), (("create", 3), 2)])
def test_killed_at_any_line_and_run_again_it_leaves_the_same_bytes(shards, tmp_path, small_parts, dies_at, whole):
    program = PROGRAM.format(function=dies_at[0], call=dies_at[1], there=str(tmp_path), base=str(shards().tokenizer))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    died = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert died.returncode == -signal.SIGKILL
    killed = shards("killed")
    assert sum(killed.find(*part) is not None for part in killed.parts) == whole
    made(killed, tmp_path)
    made(shards("straight"), tmp_path)
    assert content(killed) == content(shards("straight"))


def test_processes_leave_the_bytes_of_one_and_end_when_they_are_stopped(
    shards, tmp_path, small_parts, monkeypatch, refusing
):
    import multiprocessing

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    said = []
    made(shards("many"), tmp_path, report=lambda done, of: said.append((done, of)))
    assert said[-1] == (ROWS + 128, ROWS + 128)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made(shards("one"), tmp_path)
    assert content(shards("many")) == content(shards("one"))

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(BadInput, match="No such role"):
        made(shards("refused", tokenizer=refusing), tmp_path)

    def stop(_done, _of):
        raise Preempted("stopped")

    with pytest.raises(Preempted):
        made(shards("stopped"), tmp_path, report=stop)
    assert not multiprocessing.active_children()


def test_a_snapshot_without_rows_is_refused(shards, tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(tmp_path / "train.parquet").slice(0, 0), tmp_path / "none.parquet")
    with pytest.raises(BadInput, match="the snapshot has 95 training and 0 held-out examples; both are needed"):
        made(shards(held_out=tmp_path / "none.parquet"), tmp_path)


def test_a_damaged_part_is_made_again_by_the_next_attempt(shards, tmp_path, small_parts):
    first = made(shards(), tmp_path)
    expected = content(shards())
    damaged = first.train[3] / "tokens.npy"
    damaged.write_bytes(damaged.read_bytes()[:-4] + b"evil")
    with pytest.raises(BadEnvironment, match=r"SHA-256 .* the next attempt makes these tokens again"):
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
