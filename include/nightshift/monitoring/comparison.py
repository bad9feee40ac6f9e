"""Compares one metric of two profiles: the effect, its size by chance, and a description of the change."""

from __future__ import annotations

from dataclasses import dataclass

from nightshift.monitoring.cells import Counts, Floats, Numbers
from nightshift.monitoring.counting import Categories
from nightshift.monitoring.effects import jensen_shannon, named_side_by_side, side_by_side, unit, wasserstein
from nightshift.monitoring.profiles import ALL_ROWS, Distribution, Profile
from nightshift.monitoring.significance import Chance, chance_of_categories, chance_of_numbers, mean_of
from nightshift.monitoring.wording import categories_in_words, number, numbers_in_words
from nightshift.settings.metrics import Metric


@dataclass(frozen=True)
class Comparison:
    """How far one metric of two profiles is apart; `rows` and `reference_rows` have a value of it."""

    metric: Metric
    rows: int
    reference_rows: int
    effect: float = 0.0
    chance: Chance | None = None  # None: too few rows, or an effect below what was asked about
    direction: str = ""  # what changed, in words


def compare(
    profile: Profile,
    reference: Profile,
    metric: Metric,
    segment: str = ALL_ROWS,
    *,
    min_rows: int = 1,
    least_effect: float = 0.0,
) -> Comparison:
    """Return the comparison of one metric in one segment.

    :param min_rows: with fewer values than this on either side there is no effect.
    :param least_effect: below this effect it is not asked what chance gives, which takes most of the time.
    """
    names = [str(metric)]
    if metric == Metric.PROMPT_EMBEDDING:
        names = [name for name in reference.metrics(segment) if name.startswith(f"{metric}/")]
    pairs = [(profile.get(name, segment), reference.get(name, segment)) for name in names]
    rows = min((_rows(current) for current, _ in pairs), default=0)
    reference_rows = min((_rows(other) for _, other in pairs), default=0)
    if min(rows, reference_rows) < max(min_rows, 1):
        return Comparison(metric, rows, reference_rows)
    seed = f"{segment}/{metric}/{rows}/{reference_rows}"
    found = [_Distance.between(metric, current, other) for current, other in pairs]
    effect = sum(one.effect for one in found) / len(found)
    chance = None
    if effect >= least_effect:
        chances = [one.chance(f"{seed}/{name}") for name, one in zip(names, found, strict=True)]
        chance = chances[0] if len(chances) == 1 else mean_of(chances)
    if len(found) > 1:
        direction, most = max(enumerate(found), key=lambda one: one[1].effect)
        return Comparison(
            metric, rows, reference_rows, effect, chance, f"direction {direction} moved most, by {number(most.effect)}"
        )
    return Comparison(metric, rows, reference_rows, effect, chance, found[0].words)


@dataclass(frozen=True)
class _Distance:
    """The effect between two distributions, with what it takes to draw it anew."""

    effect: float
    counts: Counts  # of interval and reference, 2 x k
    values: Floats | None  # of numbers, k; None: categories
    unit: float
    words: str

    @classmethod
    def between(cls, metric: Metric, current: Distribution | None, reference: Distribution | None) -> _Distance:
        if isinstance(current, Numbers) and isinstance(reference, Numbers):
            values, counts = side_by_side(current, reference)
            scale = unit(metric, reference)
            effect = float(wasserstein(values, counts[0], counts[1])) / scale
            return cls(effect, counts, values, scale, numbers_in_words(current, reference))
        if isinstance(current, Categories) and isinstance(reference, Categories):
            _, counts = named_side_by_side(current, reference)
            effect = float(jensen_shannon(counts[0], counts[1]))
            return cls(effect, counts, None, 1.0, categories_in_words(current, reference))
        raise TypeError(f"{metric}: numbers on one side and categories on the other cannot be compared")

    def chance(self, seed: str) -> Chance:
        if self.values is None:
            return chance_of_categories(self.counts, seed)
        return chance_of_numbers(self.values, self.counts, self.unit, seed)


def _rows(one: Distribution | None) -> int:
    return one.rows if one else 0
