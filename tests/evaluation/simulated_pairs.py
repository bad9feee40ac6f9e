"""Thousands of pairs of models whose difference is known, and how often the test of the shadow lets the second one pass.

Run as a program, this file draws the plot of docs/shadow.md: `python tests/evaluation/simulated_pairs.py docs/images/shadow.png`.
"""

import sys
from functools import cache
from typing import NamedTuple

import numpy as np

from nightshift.evaluation.paired import bounds_of, ended, levels_of_looks

PAIRS, LEVEL, DRAWS = 2_000, 0.05, 4_000


class Simulated(NamedTuple):
    passed: float  # share of the pairs
    prompts: float  # mean number that were answered


@cache
def found(gained, lost, units, level, size):
    """Bounds where so many units have a difference of 1 and -1, the rest 0; each of `size` rows that are alike."""
    counts = np.array([gained, lost, units - gained - lost])
    return bounds_of(np.array([1.0, -1.0, 0.0]) * size, np.full(3, float(size)), counts, level, DRAWS)


def simulate(gain, loss, *, margin, prompts, looks=1, size=1, as_rows=False, seed=1):
    """Have `PAIRS` pairs of models answer: the second is right alone with probability `gain`, the first with `loss`.

    :param size: rows of a subject, which are answered alike.
    :param as_rows: as if they were independent.
    """
    chance = np.random.default_rng(seed)
    units = prompts // size // looks
    drawn = chance.multinomial(units, [gain, loss, 1 - gain - loss], (PAIRS, looks)).cumsum(axis=1)
    levels = levels_of_looks(LEVEL, [(look + 1) / looks for look in range(looks)])
    passed, used = 0, 0
    for pair in drawn:
        for look, (gained, lost, equal) in enumerate(pair.tolist()):
            rows = size if as_rows else 1
            all_units = (gained + lost + equal) * rows
            said = ended(found(gained * rows, lost * rows, all_units, levels[look], size // rows), margin)
            if said or look == looks - 1:
                passed += said == "no worse"
                used += units * size * (look + 1)
                break
    return Simulated(passed / PAIRS, used / PAIRS)


def draw(path):
    """Draw how often a candidate passes by how much better or worse it is, with one look and with four."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for axes, margin, title in (
        (left, 0.05, "No worse by 5 points (the default)"),
        (right, 0.0, "Better (margin: 0)"),
    ):
        points = np.arange(-0.10, 0.101, 0.01) if margin else np.arange(-0.05, 0.151, 0.01)
        for looks, style in ((1, "--"), (4, "-")):
            said = [
                simulate(0.08 + max(one, 0), 0.08 + max(-one, 0), margin=margin, prompts=500, looks=looks)
                for one in points
            ]
            used = np.mean([one.prompts for one in said])
            label = f"{looks} look{'s' if looks > 1 else ''}, {used:.0f} prompts on average"
            axes.plot(100 * points, [100 * one.passed for one in said], style, color="#2563c9", label=label)
        axes.axhline(100 * LEVEL, color="#b42318", linewidth=0.8)
        axes.axvline(-100 * margin, color="#626b76", linewidth=0.8)
        axes.set(title=title, xlabel="candidate minus champion, points of exact match")
        axes.legend(frameon=False, fontsize=8, loc="center right" if margin else "lower right")
    left.set_ylabel("pass the shadow, %")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(sys.argv[1])
