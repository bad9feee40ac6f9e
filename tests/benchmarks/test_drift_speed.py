"""How many rows a CPU-second judges: ours on the whole of a night's Parquet file against Evidently's DataDriftPreset.

Ten columns of the interactions, written as a night is (zstd, dictionaries, row groups of 65,536 rows). Every figure is
the CPU time of all threads of a child process, reading Parquet included and imports left out on both sides (those are
in the table too). Run as a program, this file is one of the children: `python test_drift_speed.py WHO FOLDER ROWS`.
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
NUMERIC = [
    "prompt_characters",
    "prompt_tokens",
    "response_characters",
    "response_tokens",
    "toxicity",
    "sentiment",
    "groundedness",
]
CATEGORICAL = ["prompt_language", "response_language", "finish_reason"]
COLUMNS = [*NUMERIC, *CATEGORICAL]
MILLION = 1_000_000
GROUP_ROWS = 1 << 16
SIZES = (MILLION, 10 * MILLION)


def rows_of(random, rows, drifted):
    """Return rows with the ten columns and a text; drifted ones have longer prompts and another language."""
    from nightshift.data.interactions import INTERACTION_SCHEMA

    characters = random.lognormal(4 + 0.3 * drifted, 0.7, rows)
    answered = random.lognormal(5, 0.8, rows)
    languages = np.array(["en", "es", "de", "fr", "pt", "und"])
    common = np.array([0.8, 0.1, 0.04, 0.03, 0.02, 0.01])
    spoken = common if not drifted else np.array([0.6, 0.3, 0.04, 0.03, 0.02, 0.01])
    columns = {
        "prompt_characters": characters,
        "prompt_tokens": characters / 4.3,
        "response_characters": answered,
        "response_tokens": answered / 4.1,
        "toxicity": random.beta(0.3, 9, rows),
        "sentiment": np.tanh(random.normal(0.2, 1, rows)),
        "prompt_language": random.choice(languages, rows, p=spoken),
        "response_language": random.choice(languages, rows, p=common),
        "finish_reason": random.choice(np.array(["stop", "length"]), rows, p=[0.95, 0.05]),
    }
    schema = pa.schema([INTERACTION_SCHEMA.field(name) for name in COLUMNS])
    arrays = {
        name: pa.array(values.astype(schema.field(name).type.to_pandas_dtype()) if name in NUMERIC else values)
        for name, values in columns.items()
    }
    arrays["groundedness"] = pa.array(random.beta(5, 2, rows).astype(np.float32), mask=random.random(rows) < 0.3)
    return pa.table([arrays[name] for name in COLUMNS], schema).append_column(
        "prompt", pa.repeat("Where is my new card? " * 4, rows)
    )


def write(file, rows, seed, *, drifted=False):
    """Write a file of `rows` rows, a group at a time."""
    random = np.random.default_rng(seed)
    first = rows_of(random, GROUP_ROWS, drifted)
    with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
        for start in range(0, rows, GROUP_ROWS):
            group = first if not start else rows_of(random, GROUP_ROWS, drifted)
            writer.write_table(group.slice(0, min(GROUP_ROWS, rows - start)))


def judge_ours(folder, rows, *, anew):
    """Judge `rows` rows against the stored profile of the reference, or against one made anew from as many rows."""
    from nightshift.monitoring.profiles import profile_of, read_batches, read_profile, write_profile
    from nightshift.monitoring.verdicts import judge_interval
    from nightshift.settings.policies import Drift

    yield
    profile = profile_of(read_batches(folder / f"night-{rows}.parquet", COLUMNS), COLUMNS)
    write_profile(profile, folder / f"profile-{rows}.parquet")
    if anew:
        reference = profile_of(read_batches(folder / f"reference-{rows}.parquet", COLUMNS), COLUMNS)
    else:
        reference = read_profile(folder / "reference.parquet")
    yield {one.metric: one.effect for one in judge_interval(profile, reference, Drift()).metrics}


def judge_evidently(folder, rows):
    """Judge `rows` rows against as many with Evidently's preset; its methods are the same from 1,000 rows on."""
    import pandas
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    yield
    definition = DataDefinition(numerical_columns=NUMERIC, categorical_columns=CATEGORICAL)
    night, reference = (
        Dataset.from_pandas(
            pandas.read_parquet(folder / f"{name}-{rows}.parquet", columns=COLUMNS), data_definition=definition
        )
        for name in ("night", "reference")
    )
    report = Report([DataDriftPreset()]).run(night, reference)
    found = json.loads(report.json())["metrics"]
    yield {one["config"]["column"]: one["value"] for one in found if "column" in one["config"]}


def judge_arrays(folder, rows):
    """Return the effects by scipy on the whole columns in memory: what ours must agree with."""
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import wasserstein_distance

    from nightshift.settings.metrics import SMALLEST_SCORE_DEVIATION

    yield
    effects = {}
    for name in COLUMNS:
        night, reference = (
            pq.read_table(folder / f"{which}-{rows}.parquet", columns=[name])[name].drop_null().combine_chunks()
            for which in ("night", "reference")
        )
        if name in NUMERIC:
            night, reference = (one.to_numpy().astype(np.float64) for one in (night, reference))
            unit = reference.std()
            if name in {"toxicity", "sentiment", "groundedness"}:
                unit = max(unit, SMALLEST_SCORE_DEVIATION)
            effects[name] = wasserstein_distance(night, reference) / unit
        else:
            counted = [
                dict(zip(*(column.to_pylist() for column in one.value_counts().flatten()), strict=True))
                for one in (night, reference)
            ]
            names = sorted({*counted[0], *counted[1]})
            effects[name] = jensenshannon(*([one.get(key, 0) for key in names] for one in counted), base=2)
    yield effects


def child(who, folder, rows):
    """Run one of the contestants in this process and print what it took."""
    contestants = {
        "stored": lambda: judge_ours(folder, rows, anew=False),
        "anew": lambda: judge_ours(folder, rows, anew=True),
        "evidently": lambda: judge_evidently(folder, rows),
        "arrays": lambda: judge_arrays(folder, rows),
    }
    steps = contestants[who]()
    next(steps)
    imported = time.process_time()
    effects = next(steps)
    # ru_maxrss of a child starts at its parent's on Linux; this one is its own.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps({
        "rows": rows,
        "cpu_seconds": time.process_time() - imported,
        "import_cpu_seconds": imported,
        "peak_mb": int(status["VmHWM"].split()[0]) / 1e3,
        "effects": effects,
    }))  # fmt: skip


def run(who, folder, rows):
    """Return what a child of its own measured."""
    environment = {**os.environ, "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, who, str(folder), str(rows)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.benchmark
def test_a_cpu_second_judges_fifty_times_as_many_rows_as_with_evidently(tmp_path):
    from nightshift.monitoring.profiles import profile_of, read_batches, write_profile

    for rows in SIZES:
        write(tmp_path / f"night-{rows}.parquet", rows, seed=1, drifted=True)
        write(tmp_path / f"reference-{rows}.parquet", rows, seed=2)
    stored = profile_of(read_batches(tmp_path / f"reference-{MILLION}.parquet", COLUMNS), COLUMNS)
    write_profile(stored, tmp_path / "reference.parquet")
    measured = {
        f"{who} {rows}": run(who, tmp_path, rows)
        for who, rows in [
            *((who, rows) for who in ("stored", "anew") for rows in SIZES),
            ("evidently", MILLION),
            ("arrays", MILLION),
            ("arrays", 10 * MILLION),
        ]
    }
    evidently = measured[f"evidently {MILLION}"]
    base = evidently["rows"] / evidently["cpu_seconds"]
    lines = [
        "| | rows of the night | CPU-s | rows per CPU-s | x Evidently | import CPU-s | peak MB |",
        "| --- |" + " ---: |" * 6,
    ]
    for name, one in measured.items():
        one["rows_per_cpu_second"] = one["rows"] / one["cpu_seconds"]
        one["ratio"] = one["rows_per_cpu_second"] / base
        lines.append(
            f"| {TITLES[name.split()[0]]} | {one['rows']:,} | {one['cpu_seconds']:.2f} | {one['rows_per_cpu_second']:,.0f} "
            f"| {one['ratio']:.1f} | {one['import_cpu_seconds']:.1f} | {one['peak_mb']:,.0f} |"
        )
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "drift_speed.md").write_text("\n".join(lines) + "\n")
    (REPORT / "drift_speed.json").write_text(json.dumps(measured, indent=1))
    print("\n".join(["", *lines]))
    for rows in SIZES:
        ours, exact = measured[f"anew {rows}"]["effects"], measured[f"arrays {rows}"]["effects"]
        assert ours == pytest.approx(exact, abs=0.001)
        assert {name: level(effect) for name, effect in ours.items()} == {
            name: level(one) for name, one in exact.items()
        }
    small, large = (measured[f"anew {rows}"]["peak_mb"] for rows in SIZES)
    assert large < 1_000
    assert large < 1.25 * small
    assert measured[f"stored {10 * MILLION}"]["ratio"] >= 50
    assert measured[f"anew {10 * MILLION}"]["ratio"] >= 25


def level(effect):
    """Return which of the default floors an effect reaches."""
    from nightshift.settings.policies import Drift

    return sum(effect >= floor for floor in (Drift().warn, Drift().fail))


TITLES = {
    "stored": "Nightshift, reference profiled before",
    "anew": "Nightshift, both sides profiled",
    "evidently": "Evidently DataDriftPreset",
    "arrays": "scipy on whole columns",
}

if __name__ == "__main__":
    child(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
