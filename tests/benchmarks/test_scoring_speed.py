"""What the scores of an interaction cost, scorer by scorer, for short responses and for long ones of many sentences, and what
more processors give: the same scores to the bit, sooner. The scorers have what one job has; the report names the machine.
"""

import csv
import os
import time
from pathlib import Path

import pytest

import nightshift
from nightshift.data.processors import processors
from nightshift.evaluation.scorers import Scorers
from nightshift.settings.application import Application

SAMPLE = Path(nightshift.__file__).parent / "samples" / "banking77"
REPORT = Path(os.environ.get("NIGHTSHIFT_BENCHMARKS") or Path(__file__).parents[2] / "build" / "benchmarks")
SHORT_ROWS, LONG_ROWS = 400, 60
LONG_WORDS = 300


def messages():
    rows = [row for file in sorted(SAMPLE.glob("*.csv")) for row in csv.DictReader(file.open(encoding="utf-8"))]
    return list(dict.fromkeys(" ".join(row["text"].split()) for row in rows))


def long_texts(texts, rows):
    """Texts of `LONG_WORDS` words at least, each message once in all of them."""
    left = iter(texts)
    found = []
    for _ in range(rows):
        parts, words = [], 0
        while words < LONG_WORDS:
            parts.append(next(left))
            words += len(parts[-1].split())
        found.append("\n".join(parts))
    return found


def measure(scorers, texts, others):
    """Score texts as responses with other texts as contexts and references; return the columns and the wall seconds."""
    scorers.seconds.clear()
    start = time.perf_counter()
    columns = scorers.score(texts, texts, others, others, ["stop"] * len(texts))
    return columns, time.perf_counter() - start


@pytest.mark.benchmark
def test_all_processors_score_long_responses_and_say_the_same(wordless_model, monkeypatch):
    count = processors()
    if count == 1:
        pytest.skip("one processor")
    source = {"uri": "x/*.csv", "columns": {"prompt": "text"}}
    scorers = Scorers(Application.model_validate({"name": "bank", "sources": [source]}), wordless_model)
    texts = messages()
    kinds = {"short": texts[: SHORT_ROWS + 1], "long": long_texts(texts[::-1], LONG_ROWS + 1)}
    took, lines = (
        {},
        ["| responses | scorer | milliseconds of processor time a row | rows a processor-second |", "| --- " * 4 + "|"],
    )
    for kind, rows in kinds.items():
        given, others = rows[:-1], rows[1:]
        with monkeypatch.context() as alone:
            alone.setenv("OMP_NUM_THREADS", "1")
            measure(scorers, given[:5], others[:5])
            one, took[kind, 1] = measure(scorers, given, others)
            seconds = dict(scorers.seconds)
        many, took[kind, count] = measure(scorers, given, others)
        assert many == one
        for name, value in [*sorted(seconds.items(), key=lambda item: -item[1]), ("whole", sum(seconds.values()))]:
            lines.append(f"| {kind} | {name} | {value / len(given) * 1e3:.3f} | {len(given) / max(value, 1e-9):,.0f} |")
        gain = took[kind, 1] / took[kind, count]
        lines.append(f"| {kind} | {count} processors in place of one | | {gain:.2f} times as fast |")
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "scoring-speed.md").write_text("\n".join(lines) + "\n")
    print("\n" + "\n".join(lines))
    assert took["long", 1] / took["long", count] > 0.5 * min(count, 8)  # what is not embedded is scored by one
