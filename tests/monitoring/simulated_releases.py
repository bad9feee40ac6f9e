"""Thousands of releases whose true quality is known, and how many of them the watch says have fallen below their promise.

Run as a program, this file draws the plot of docs/watch.md:
`PYTHONPATH=tests/evaluation python tests/monitoring/simulated_releases.py docs/images/watch.png`.
"""

import sys
from functools import cache

import numpy as np
from simulated_pairs import ended, found, levels_of_looks

from nightshift.evaluation.paired import Kinds
from nightshift.evaluation.unpaired import difference_of
from nightshift.monitoring.promise import fell, level_of_look, shares

RELEASES, LEVEL, MARGIN, QUALITY, DRAWS = 2_000, 0.05, 0.05, 0.75, 2_000


@cache
def difference(right, of, promised, promised_of, *, level, size):
    """Bounds where so many units are answered rightly, in each of their `size` rows."""
    kinds = Kinds(np.array([size, 0.0]), np.full(2, float(size)), np.array([right, of - right], float))
    return difference_of(kinds, shares(promised / promised_of, promised_of), level, DRAWS)


@cache
def level_at(look, rows, promised, intervals):
    """That of quality, for which half of the level is."""
    looks = range(1, look + 1)
    return level_of_look(LEVEL / 2, [rows * one for one in looks], promised, [one / intervals for one in looks])


def promises(rows, seed=1):
    """Right answers in the shadow, and all, of versions that were released whatever it said."""
    right = np.random.default_rng(seed).binomial(rows, QUALITY, RELEASES)
    return [(one, rows) for one in right.tolist()]


def passed_promises(rows, differ=0.08, seed=1):
    """The same of versions as good as their champion that passed a shadow of four looks, by some luck.

    :param differ: share of the prompts on which only the one is right; only the other is as often.
    """
    chance, levels = np.random.default_rng(seed), levels_of_looks(LEVEL, [0.25, 0.5, 0.75, 1])
    shares_of = [differ, differ, QUALITY - differ, 1 - QUALITY - differ]
    told = []
    while len(told) < RELEASES:
        for level, (gained, lost, both, none) in zip(
            levels, chance.multinomial(rows // 4, shares_of, 4).cumsum(axis=0).tolist(), strict=True
        ):
            answered = gained + lost + both + none
            if said := ended(found(gained, lost, answered, level, 1), MARGIN):
                told += [(gained + both, answered)] if said == "no worse" else []
                break
    return told


def breaches(promised, fall, *, rows, intervals=3, margin=MARGIN, size=1, as_rows=False, seed=2):
    """Return the share of releases that are a breach, whose true quality is lower than the promised one by `fall`.

    :param promised: right answers in the shadow, and all, of each.
    :param size: rows of a subject, which are all right or all wrong; `as_rows`: as if they were independent.
    """
    units, rows_of, size = rows // size, (size if as_rows else 1), (1 if as_rows else size)
    right = np.random.default_rng(seed).binomial(units, QUALITY - fall, (len(promised), intervals)).cumsum(axis=1)
    found_by_now = 0
    for (before, answered), looks in zip(promised, right.tolist(), strict=True):
        for look, good in enumerate(looks, 1):
            of = units * look
            # Most are no fall of more than the margin, and need no bounds.
            if good / of - before / answered < -margin:
                level = level_at(look, rows, answered, intervals)
                if fell(difference(good * rows_of, of * rows_of, before, answered, level=level, size=size), margin):
                    found_by_now += 1
                    break
    return found_by_now / len(promised)


def draw(path):
    """Draw how many releases are a breach by how much they fell, for one interval and three, and for few rows and many."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
    falls = np.arange(-0.02, 0.161, 0.01)
    for rows, colour in ((150, "#b06a00"), (500, "#2563c9")):
        for intervals, style in ((1, "--"), (3, "-")):
            said = [100 * breaches(promises(rows), fall, rows=rows, intervals=intervals) for fall in falls]
            label = f"{rows} rows each, {intervals} interval{'s' if intervals > 1 else ''}"
            axes.plot(100 * falls, said, style, color=colour, label=label)
    axes.axhline(100 * LEVEL, color="#b42318", linewidth=0.8)
    axes.axvline(100 * MARGIN, color="#626b76", linewidth=0.8)
    axes.set(xlabel="fall of the true quality from 75 %, points", ylabel="breaches, % of 2,000 releases")
    figure.legend(frameon=False, fontsize=8, ncols=2, loc="outside lower center")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(sys.argv[1])
