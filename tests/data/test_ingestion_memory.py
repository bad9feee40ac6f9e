"""Memory does not grow with the file: a night of ten times the rows needs about the same."""

import json
import random
import subprocess
import sys

import pytest

MEASURE = r"""
import re, sys
from datetime import UTC, datetime
from pathlib import Path
from nightshift.settings.interval import Interval
from nightshift.settings.intake import Columns, Ingest, Source
from nightshift.data.ingestion import Ingestion
from nightshift.data.measures import TextMeasures
from nightshift.data.sources import raw_files
night = Interval(start=datetime(2026, 11, 2, tzinfo=UTC), end=datetime(2026, 11, 3, tzinfo=UTC))
drop, tokenizer, work = map(Path, sys.argv[1:])
(work / "target").mkdir(parents=True)
files = raw_files(Source(uri=str(drop), columns=Columns(prompt="text", id="id")), night, work)
ingested = Ingestion(Ingest(), night, TextMeasures(tokenizer), work).run(files, work / "target", lambda rows: None)
# The kernel counts ru_maxrss on from the parent's; VmHWM is this process's own peak.
peak_kb = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
print(ingested.counts["rows_in"], peak_kb / 1000)
"""


@pytest.mark.nightly
def test_three_hundred_thousand_rows_need_the_memory_of_thirty_thousand(tmp_path, wordless_model):
    chance = random.Random(5)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))) for _ in range(5_000)]
    peaks = {}
    for rows in (30_000, 300_000):
        drop = tmp_path / f"{rows}.jsonl"
        with drop.open("w") as file:
            for number in range(rows):
                text = " ".join(chance.choices(words, k=chance.randint(3, 25)))
                file.write(json.dumps({"id": number, "text": text}) + "\n")
        command = [sys.executable, "-c", MEASURE, drop, wordless_model / "tokenizer.json", tmp_path / f"work-{rows}"]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        rows_in, peaks[rows] = (float(number) for number in run.stdout.split())
        assert rows_in == rows
    # The larger file is 25 MB more, its rows as Python objects some 300 MB; the tables in DuckDB may take 256 MB.
    assert peaks[300_000] - peaks[30_000] < 250, peaks
    assert peaks[300_000] < 700, peaks
