"""What a real stack left: rows of every side, gone from all that jobs made of them."""

import html
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stored_states import each_state, unpack
from upath import UPath

from nightshift.erasure.applying import apply
from nightshift.erasure.finding import Finding
from nightshift.erasure.target import ErasureTarget
from nightshift.inference.prompts import Prompts
from nightshift.storage.manifest import read_manifest
from nightshift.storage.partition import fetch


@pytest.fixture(**each_state)
def helper(request, tmp_path):
    """The folder of the application of a stored state."""
    state = unpack(request.param, tmp_path)
    return tmp_path / "bucket" / state.name / "storage" / "helper"


def words(path):
    """The words of a file, those of Parquet unpacked."""
    content = path.read_bytes()
    if content[:4] == b"PAR1":
        return _words(str(pq.read_table(pa.BufferReader(content)).to_pylist()))
    return _words(re.sub("<[^>]*>", "", html.unescape(content.decode("utf-8", "replace"))))


def _words(text):
    return " ".join(re.findall("[a-z]+", text.lower()))


def test_rows_of_every_side_are_gone_and_what_is_left_fits_together(helper, tmp_path):
    home = UPath(helper.as_uri())
    days = [pq.read_table(path).to_pylist() for path in sorted(helper.glob("examples/*/*/examples.parquet"))]
    # The first days were trained on, the last one was answered.
    wanted = {"train": days[0], "held_out": days[0], "traffic": days[-1]}
    chosen = [
        next(row for row in reversed(rows) if row["split"] == split and len(row["prompt"]) > 60)
        for split, rows in wanted.items()
    ]

    def holding():
        left = {path: words(path) for path in helper.rglob("*") if path.is_file()}
        return {path for path, text in left.items() for row in chosen if _words(row["prompt"])[:60] in text}

    assert len(holding()) > 12
    for number, row in enumerate(chosen, 1):
        apply(home, Finding(home, ErasureTarget(digest=row["digest"])).find(), number, lambda *_: None)
    assert holding() == set()
    for path in helper.rglob("manifest.json"):
        partition = UPath(path.parent.as_uri())
        for file in read_manifest(partition).files:
            fetch(partition, read_manifest(partition), file.name, tmp_path)  # checks its digest
    for night in helper.glob("interactions/*"):
        day, answered = home / "examples" / night.name, home / "interactions" / night.name
        prompts = Prompts(day, read_manifest(day), tmp_path)
        asked = prompts.read(0, prompts.rows - 1, ["prompt"])["prompt"].to_pylist()
        answers = pq.read_table(fetch(answered, read_manifest(answered), "interactions.parquet", tmp_path))
        assert [asked[number] for number in answers["row"].to_pylist()] == answers["prompt"].to_pylist() == asked
