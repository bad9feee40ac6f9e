"""Postings: what is read from the file is what all rows together say, wherever a word's rows begin and end."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.retrieval import postings
from nightshift.retrieval.postings import Postings

PASSAGES = 200
# The last ones are too long for a dictionary of Parquet.
WORDS = [
    "a",
    "card",
    "straße",
    "口座",
    "🙂",
    *(f"{letter * 3_000}" for letter in "xyz"),
    *(f"w{n}" for n in range(400)),
]


@pytest.fixture(params=[7, 64, 100_000])
def written(request, tmp_path, monkeypatch):
    """A file of postings with so many rows in a group, and its rows."""
    monkeypatch.setattr(postings, "SUMS_AT_ONCE", 3 * PASSAGES)
    chance = random.Random(7)
    rows = sorted(
        ((word, chunk, chance.choice([0.5, 1.25, 2.0])) for word in WORDS for chunk in range(PASSAGES) if chance.random() < 0.1),
        key=lambda row: (row[0].encode(), row[1]),
    )  # fmt: skip
    schema = pa.schema([("term", pa.string()), ("chunk", pa.int64()), ("score", pa.float32())])
    with pq.ParquetWriter(tmp_path / "postings.parquet", schema, dictionary_pagesize_limit=4_096) as file:
        for start in range(0, len(rows), request.param):
            columns = zip(*rows[start : start + request.param], strict=True)
            file.write_table(pa.table([list(column) for column in columns], schema=schema))
    return tmp_path / "postings.parquet", rows


def test_the_best_passages_are_those_of_all_rows_and_equal_ones_come_in_order(written):
    path, rows = written
    chance = random.Random(8)
    questions = [{*chance.sample(WORDS, 5), "nowhere"} for _ in range(20)] + [set(), {"nowhere"}]
    wanted = []
    for terms in questions:
        sums = {}
        for term, chunk, score in rows:
            if term in terms:
                sums[chunk] = sums.get(chunk, 0) + score
        wanted.append(sorted(sums.items(), key=lambda one: (-one[1], one[0]))[:10])

    assert Postings(path, PASSAGES).best(questions, 10) == wanted
    assert wanted[-2:] == [[], []]


def test_a_word_weighs_more_the_fewer_passages_have_it(written):
    path, rows = written
    weights = Postings(path, PASSAGES).weights({"card", "w7", "nowhere"})
    have = {word: sum(term == word for term, _, _ in rows) for word in weights}
    assert sorted(weights, key=weights.get) == sorted(have, key=have.get, reverse=True)
    assert have["nowhere"] == 0
