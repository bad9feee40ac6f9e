"""What Great Expectations costs over all rows of a partition: through our engine, and on a frame of pandas.

A suite of 16 expectations, four with regular expressions, over the columns of a partition of examples as it is written
(zstd, row groups of 65,536 rows). Every figure is the CPU time of all threads of a child process, reading Parquet included
and imports left out on both sides, and the peak of its memory. Run as a program, this file is one of the children, which
makes the rows where they are not there: `python test_expectations_speed.py ours|pandas|profile FOLDER ROWS`.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
REPORT = Path(os.environ.get("NIGHTSHIFT_BENCHMARKS") or ROOT / "build")
MILLION = 1_000_000
GROUP_ROWS = 1 << 16
TEXTS = 20_000  # different prompts and answers


def expected(kind, column=None, **kwargs):
    return {"type": f"expect_{kind}", "kwargs": kwargs | ({"column": column} if column else {})}


SUITE = [
    expected("table_row_count_to_be_between", min_value=1),
    expected("column_values_to_not_be_null", "prompt"),
    expected("column_values_to_not_be_null", "answer", mostly=0.9),
    expected("column_values_to_match_regex", "prompt", regex=r"\w+"),
    expected("column_values_to_not_match_regex", "prompt", regex=r"\d{4}[- ]?\d{4}[- ]?\d{4}[- ]?\d{4}"),
    expected("column_values_to_match_regex", "answer", regex=r"^[A-Za-z ,.]+$", mostly=0.9),
    expected("column_values_to_match_regex", "digest", regex="^[0-9a-f]{64}$"),
    expected("column_value_lengths_to_be_between", "prompt", min_value=1, max_value=8_000),
    expected("column_value_lengths_to_be_between", "answer", min_value=1, max_value=8_000),
    expected("column_values_to_be_in_set", "language", value_set=["en", "de", "fr", "und"]),
    expected("column_values_to_be_in_set", "split", value_set=["train", "held_out", "traffic"]),
    expected("column_values_to_be_between", "prompt_tokens", min_value=1, max_value=4_096),
    expected("column_values_to_be_unique", "digest"),
    expected("column_mean_to_be_between", "answer_tokens", min_value=1, max_value=4_096),
    expected("column_distinct_values_to_be_in_set", "source", value_set=["chat/1.jsonl", "chat/2.jsonl"]),
    expected(
        "column_quantile_values_to_be_between", "prompt_characters",
        quantile_ranges={"quantiles": [0.5, 0.99], "value_ranges": [[1, 400], [1, 9_000]]},
    ),
]  # fmt: skip


def write(file, rows):
    """Write a partition of `rows` examples, a group at a time: prompts of about 100 and answers of about 400 characters."""
    from nightshift.data.examples import EXAMPLE_SCHEMA
    from nightshift.data.expectations import SUITE_COLUMNS

    schema = pa.schema([EXAMPLE_SCHEMA.field(name) for name in [*SUITE_COLUMNS, "pii"]])
    random = np.random.default_rng(3)
    words = np.array(
        ["where", "is", "my", "new", "card", "please", "how", "long", "do", "transfers", "take", "and", "fees"]
    )
    prompts, answers = (
        np.array([" ".join(words[random.integers(0, len(words), length)]) for _ in range(TEXTS)], dtype=object)
        for length in (20, 80)
    )
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for start in range(0, rows, GROUP_ROWS):
            count = min(GROUP_ROWS, rows - start)
            chosen = random.integers(0, TEXTS, count)
            lengths = np.array([len(text) for text in prompts], dtype=np.int32)[chosen]
            noise = random.bytes(32 * count).hex()
            digests = [noise[place : place + 64] for place in range(0, 64 * count, 64)]
            columns = {
                "digest": digests, "prompt": prompts[chosen],
                "answer": pa.array(answers[chosen], mask=random.random(count) < 0.05),
                "source": random.choice(["chat/1.jsonl", "chat/2.jsonl"], count),
                "source_row": np.arange(start + 1, start + count + 1), "id": [f"row-{start + n}" for n in range(count)],
                "timestamp": pa.array(1_750_000_000_000_000 + np.arange(start, start + count), pa.int64()).cast(
                    pa.timestamp("us", tz="UTC")
                ),
                "language": random.choice(["en", "de", "fr"], count), "prompt_characters": lengths,
                "prompt_tokens": np.maximum(1, lengths // 4), "answer_tokens": random.integers(1, 200, count),
                "group": digests, "split": random.choice(["train", "held_out"], count, p=[0.9, 0.1]),
                "pii": pa.array([[("email", 1)] if row % 20 == 0 else [] for row in range(count)], schema.field("pii").type),
            }  # fmt: skip
            arrays = [pa.array(columns[field.name]).cast(field.type) for field in schema]
            writer.write_table(pa.table(arrays, schema=schema))


def judge(who, folder, rows):
    """Run as a child process: judge or profile the file and print what it cost."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import duckdb
    import great_expectations as gx

    from nightshift.data.expectations import SUITE_COLUMNS, check, check_rows
    from nightshift.data.profile import profile
    from nightshift.storage.manifest import Manifest

    file = folder / f"{rows}.parquet"
    if not file.exists():
        write(file, rows)
    suite = gx.ExpectationSuite(name="benchmark", expectations=SUITE)
    wall, start = time.perf_counter(), time.process_time()
    counts = {"kept": rows, "rows_in": rows, "quarantined": 0, "duplicates": 0, "near_duplicates": 0}
    results = []
    if who == "profile":
        profile(file, Manifest.model_construct(counts=counts, facts={}))
    elif who == "ours":
        results = check_rows(file, suite, folder / f"ours-{rows}").results
    else:
        names = ", ".join(f'"{name}"' for name in SUITE_COLUMNS)
        frame = duckdb.sql(f"SELECT {names} FROM read_parquet('{file}')").df()  # noqa: S608
        results = check(frame, suite, folder / f"pandas-{rows}").results
    # ru_maxrss of a child starts at its parent's on Linux; this one is its own.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(
        json.dumps(
            {
                "cpu_seconds": time.process_time() - start,
                "wall_seconds": time.perf_counter() - wall,
                "peak_mb": int(status["VmHWM"].split()[0]) / 1e3,
                "held": {
                    item.expectation_config.type + str(item.expectation_config.kwargs.get("column")): bool(item.success)
                    for item in results
                },
                "sampled": sum("sample" in item.result for item in results),
            }
        )
    )


def child(who, folder, rows):
    done = subprocess.run(
        [sys.executable, __file__, who, str(folder), str(rows)],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.benchmark
def test_all_rows_are_judged_for_a_quarter_of_what_pandas_takes_and_in_less_than_a_gigabyte(tmp_path):
    write(tmp_path / f"{MILLION}.parquet", MILLION)
    ours, pandas = (child(who, tmp_path, MILLION) for who in ("ours", "pandas"))
    REPORT.mkdir(exist_ok=True)
    lines = [
        f"| {who} | {MILLION:,} | {cost['cpu_seconds']:.1f} | {cost['wall_seconds']:.1f} | {cost['peak_mb']:.0f} |\n"
        for who, cost in [("all rows, DuckDB", ours), ("a frame of pandas", pandas)]
    ]
    head = "| engine | rows | CPU seconds | seconds | peak MB |\n| --- | --- | --- | --- | --- |\n"
    (REPORT / "expectations_speed.md").write_text(head + "".join(lines))
    assert ours["held"] == pandas["held"]
    assert not ours["sampled"]
    assert pandas["cpu_seconds"] / ours["cpu_seconds"] >= 4
    assert ours["peak_mb"] < 1_000


if __name__ == "__main__":
    judge(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
