"""The measures of a partition, against numpy on the same rows."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.data.examples import EXAMPLE_SCHEMA
from nightshift.data.profile import profile
from nightshift.storage.manifest import Manifest

COLUMNS = ["answer", "language", "prompt_characters", "prompt_tokens", "answer_tokens", "pii"]
SCHEMA = pa.schema([EXAMPLE_SCHEMA.field(name) for name in COLUMNS])


def measured(rows, folder, **counts):
    file = folder / "examples.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), file)
    known = {"rows_in": len(rows), "kept": len(rows), "quarantined": 0, "duplicates": 0, "near_duplicates": 0} | counts
    return profile(file, Manifest.model_construct(counts=known, facts={}))


def test_quantiles_are_those_of_numpy_and_missing_answers_are_counted_as_missing(tmp_path):
    random = np.random.default_rng(5)
    rows = [
        {
            "answer": None if number % 4 == 0 else f"answer {number % 50}",
            "language": "de" if number % 3 else "th",
            "prompt_characters": int(random.integers(1, 9_000)),
            "prompt_tokens": int(random.integers(1, 400)),
            "answer_tokens": int(random.integers(0, 30)),
            "pii": [("email", 1)] if number % 10 == 0 else [],
        }
        for number in range(600)
    ]
    found = measured(rows, tmp_path, rows_in=800, quarantined=200)
    for column, measure, share in [
        ("prompt_characters", "prompt_characters_median", 0.5),
        ("prompt_tokens", "prompt_tokens_p99", 0.99),
        ("answer_tokens", "answer_tokens_p99", 0.99),
    ]:
        assert found[measure] == pytest.approx(np.quantile([row[column] for row in rows], share))
    answers = {row["answer"] for row in rows if row["answer"]}
    assert (found["distinct_answers"], found["answered_share"]) == (len(answers), 0.75)
    assert (found["main_language_share"], found["pii_share"]) == pytest.approx((2 / 3, 0.1))
    assert (found["rows"], found["quarantined_share"]) == (600, 0.25)


def test_a_partition_that_kept_nothing_has_no_number_that_nobody_measured(tmp_path):
    assert measured([], tmp_path, rows_in=7, quarantined=7) == {
        "rows": 0, "quarantined_share": 1.0, "duplicate_share": 0.0, "distinct_answers": 0,
    }  # fmt: skip
