"""How many similar pairs of questions the signatures find: compared with the similarity of all pairs."""

import csv
import os
import random
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from test_split_over_days import varied

from nightshift.data.similarity import SIMILAR, bands_of, plain, shingles, signatures
from nightshift.settings.project import PACKAGE

REPORT = Path(os.environ.get("NIGHTSHIFT_BENCHMARKS") or Path(__file__).parents[2] / "build")
QUESTIONS = 4_000
SLICES = [(0.9, 1.01), (0.8, 0.9), (0.7, 0.8), (0.6, 0.7), (0.5, 0.6)]


@pytest.mark.benchmark
def test_pairs_that_are_similar_share_a_band_and_are_estimated_so():
    chance = random.Random(4)
    messages = []
    for path in sorted((PACKAGE / "samples" / "banking77").glob("*.csv")):
        with path.open() as file:
            messages += [row["text"] for row in csv.DictReader(file)]
    some = chance.sample(sorted(set(messages)), QUESTIONS)
    texts = sorted({plain(text) for text in [*some, *(varied(text, chance) for text in some)]})
    numbers, columns, ends = {}, [], [0]
    for text in texts:
        columns += [numbers.setdefault(piece, len(numbers)) for piece in shingles(text)]
        ends.append(len(columns))
    sets = csr_matrix((np.ones(len(columns), np.int32), columns, ends), (len(texts), len(numbers)))
    common = (sets @ sets.T).tocoo()
    one, other, shared = (values[common.row < common.col] for values in (common.row, common.col, common.data))
    sizes = np.diff(sets.indptr)
    similarity = shared / (sizes[one] + sizes[other] - shared)
    one, other, similarity = (values[similarity >= SLICES[-1][0]] for values in (one, other, similarity))
    values = signatures(texts)
    bands = bands_of(values)
    met = (bands[one] == bands[other]).any(axis=1)
    joined = met & ((values[one] == values[other]).mean(axis=1) >= SIMILAR)
    lines = ["| similarity | pairs | share a band | and are estimated similar |", "| --- | --- | --- | --- |"]
    for low, high in SLICES:
        inside = (similarity >= low) & (similarity < high)
        shares = " | ".join(f"{found[inside].mean():.4f}" for found in (met, joined))
        lines.append(f"| {low} to {min(high, 1):g} | {inside.sum():,} | {shares} |")
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "similarity_recall.md").write_text("\n".join(lines) + "\n")
    assert joined[similarity >= 0.8].mean() > 0.999
