"""Thousands of splits whose true difference is known, and how they end: the challenger is released, or stopped.

The quality of both rises from interval to interval: most of what the challenger answers, it answers when questions are easier.
Run as a program, this file draws the plot of docs/split.md: `python tests/evaluation/simulated_splits.py docs/images/split.png`.
"""

import sys
from collections import Counter
from functools import cache

import numpy as np

from nightshift.evaluation.arms import level_of
from nightshift.evaluation.paired import Kinds
from nightshift.evaluation.unpaired import difference_of
from nightshift.ledger.records import Arms, Split
from nightshift.ledger.splits import next_look, step_of
from nightshift.settings.split import Split as Settings

SPLITS, DRAWS, VALID = 2_000, 1_000, (0.0, 0.0, 0.0)
FROM, TO = 0.6, 0.9  # right answers of the champion in the first interval and the last


@cache
def level_at(settings, known):
    return level_of(Settings.model_validate_json(settings), known)


def ended(chance, settings, rows, difference, intervals):
    """Return how a split of so many rows an interval ends, of as many users, each of whom comes once."""
    split = Split(
        number=1, decision="d", after=1, settings=settings, key="k", version="2", model_digest="b", champion="1",
        champion_digest="a", started="2026-11-02T00:00:00Z",
    )  # fmt: skip
    looks, arms, known = [], (Counter(), Counter()), []
    for number in range(1, intervals + 1):
        new = int(rows * settings.shares[step_of(looks)])
        quality = FROM + (TO - FROM) * (number - 1) / (intervals - 1)
        for arm, of, right in zip(arms, (rows - new, new), (quality, quality + difference), strict=True):
            good, weight = chance.binomial(of, min(right, 1)), new / of
            arm.update({(weight, weight): good, (0, weight): of - good})
        known.append(known[-1] + new if known else new)
        old, challenger = (Kinds(*np.array([(*kind, count) for kind, count in arm.items()], float).T) for arm in arms)
        found = difference_of(challenger, old, level_at(settings.model_dump_json(), tuple(known)), DRAWS)
        evidence = Arms(
            evidence=number, units={}, means={}, metric="exact_match", comparisons=number,
            differences={"exact_match": found, "valid": VALID},
        )  # fmt: skip
        looks.append(next_look(split, looks, f"day {number}", evidence, split.started))
        if looks[-1].action in {"pass", "stop"}:
            break
    return looks[-1].action


def ends(settings, rows, difference, *, intervals=28, splits=SPLITS, seed=3):
    """Return the shares of splits that end with the release, and with a stop."""
    chance = np.random.default_rng(seed)
    said = [ended(chance, settings, rows, difference, intervals) for _ in range(splits)]
    return said.count("pass") / splits, said.count("stop") / splits


def draw(path):
    """Draw how splits with the default settings end, by how much better the challenger is, for two sizes of traffic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    settings = Settings()
    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
    differences = [-0.15, -0.1, -0.075, -0.05, -0.025, 0, 0.03]
    for rows, colour in ((2_000, "#b06a00"), (8_000, "#2563c9")):
        said = [ends(settings, rows, difference) for difference in differences]
        print(rows, dict(zip(differences, said, strict=True)), flush=True)
        for place, (what, style) in enumerate((("released", "-"), ("stopped", "--"))):
            shares = [100 * one[place] for one in said]
            axes.plot([100 * one for one in differences], shares, style, color=colour, label=f"{rows:,} users, {what}")
    axes.axhline(100 * settings.level, color="#b42318", linewidth=0.8)
    axes.axvline(-100 * settings.margin, color="#626b76", linewidth=0.8)
    axes.set(xlabel="true difference of the challenger, points", ylabel="% of 2,000 splits")
    figure.legend(frameon=False, fontsize=8, ncols=2, loc="outside lower center")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(sys.argv[1])
