"""Judged answers of a snapshot: good ones and bad ones, each beside an answer to another prompt, in an order of their own."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.data.corrections import KIND
from nightshift.data.examples import EXAMPLE_SCHEMA
from nightshift.data.judged_answers import one_sided, write_judged


def row(number, kind=None, *, answer=None, rejected=None, response=None, split="train"):
    asked = [{"role": "user", "content": f"question {number}"}]
    empty = {one.name: 0 if pa.types.is_integer(one.type) else "" for one in EXAMPLE_SCHEMA if not one.nullable}
    return {
        **empty,
        "digest": f"{number:064}{kind}",
        "messages": asked + ([{"role": "assistant", "content": answer}] if answer else []),
        "rejected": rejected and {"role": "assistant", "content": rejected},
        "metadata": {KIND: kind} if kind else {},
        "pii": {},
        "response": response,
        "split": split,
    }


def written(path, rows):
    pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLE_SCHEMA), path)
    return path


@pytest.fixture
def sides(tmp_path):
    examples = [
        row(1, answer="plain, so nobody judged it"),
        *(row(n, answer=f"chosen {n}", rejected=f"rejected {n}") for n in (2, 3, 4)),
        row(5, "correction", answer="corrected 5"),
    ]
    judged = [
        row(5, "undesirable", response="said 5"),
        row(6, "desirable", response="said 6"),
        row(7, "desirable", response="said 7", split="held_out"),
    ]
    return written(tmp_path / "train.parquet", examples), written(tmp_path / "judged.parquet", judged)


def test_pairs_corrections_and_thumbs_are_good_and_bad_answers_and_the_rest_is_not_learned_from(sides, tmp_path):
    target = tmp_path / "out.parquet"
    assert write_judged(*sides, "train", target, ["digest", "messages", "tools", "metadata"]) == (5, 4)
    found = pq.read_table(target).to_pylist()
    said = {one["messages"][-1]["content"]: one["desirable"] for one in found}
    good = {"chosen 2", "chosen 3", "chosen 4", "corrected 5", "said 6"}
    bad = {"rejected 2", "rejected 3", "rejected 4", "said 5"}
    assert said == dict.fromkeys(good, True) | dict.fromkeys(bad, False)
    assert all([turn["role"] for turn in one["messages"]] == ["user", "assistant"] for one in found)
    others = [one["rejected"]["content"] for one in found]
    assert sorted(others) == sorted(said), "each answer stands beside one other row"
    assert all(other != one["messages"][-1]["content"] for one, other in zip(found, others, strict=True))
    kinds = [one["desirable"] for one in found]
    assert [sum(kinds[place : place + 2]) for place in (0, 2, 4, 6)] == [1] * 4, "both kinds are among the first rows"


def test_a_side_has_its_own_answers_alone_and_a_snapshot_may_have_none(sides, tmp_path):
    _, judged = sides
    nothing = written(tmp_path / "held_out.parquet", [])
    assert write_judged(nothing, judged, "held_out", tmp_path / "out.parquet", ["digest", "messages"]) == (1, 0)
    assert write_judged(nothing, None, "held_out", tmp_path / "out.parquet", ["digest", "messages"]) == (0, 0)
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


def test_bad_answers_alone_teach_nothing():
    assert one_sided((3, 2), (1, 1)) is None
    assert "0 good and 7 bad training answers, and 1 good and 1 bad held-out ones" in one_sided((0, 7), (1, 1))
