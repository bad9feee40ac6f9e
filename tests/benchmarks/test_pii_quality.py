"""How well personal data is found: precision and recall by kind and by script, on labelled texts that were made.

A find counts where the whole text is as it should be: neither a character too many nor one too few was replaced.
"""

import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from labelled_texts import LANGUAGES, labelled_texts

from nightshift.data.pii import ORDER, redact

REPORT = Path(os.environ.get("NIGHTSHIFT_BENCHMARKS") or Path(__file__).parents[2] / "build")


@pytest.mark.benchmark
def test_personal_data_is_found_in_every_script_and_numbers_of_nobody_stay():
    measured = measure(redact)
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "pii_quality.md").write_text(table(measured))
    for (_, group), (right, found, there) in measured.items():
        assert right >= 0.9 * there, group
        assert right >= 0.95 * found, group


def measure(redactor):
    """Return (what, its name) -> finds that are exactly right, all finds, and what is there to find."""
    counts = defaultdict(lambda: [0, 0, 0])
    for row in labelled_texts():
        found = Counter()
        exact = redactor(row.text, ORDER, found) == row.redacted
        for kind in {*found, *([row.kind] if row.kind else [])}:
            there = row.redacted.count(f"<{kind}>")
            one = (exact * there, found[kind], there)
            for group in (("kind", kind), ("script", LANGUAGES[row.language].script)):
                counts[group] = [total + number for total, number in zip(counts[group], one, strict=True)]
    return counts


def table(measured):
    """Return the counts as Markdown."""
    lines = ["| | there | precision | recall |", "| --- | --- | --- | --- |"]
    for (_, name), (right, found, there) in sorted(measured.items()):
        precision = f"{right / found:.3f}" if found else "-"
        lines.append(f"| {name} | {there} | {precision} | {right / there:.3f} |")
    return "\n".join(lines) + "\n"
