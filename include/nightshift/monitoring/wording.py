"""Describes the change between two distributions as text."""

from __future__ import annotations

from nightshift.monitoring.cells import Numbers
from nightshift.monitoring.counting import Categories

_NAMED = 3  # categories that are named
_LONGEST = 40  # characters of a name; these sentences stand in alerts


def numbers_in_words(current: Numbers, reference: Numbers) -> str:
    """Return how the mean moved, and the percentile that moved most where it moved further than the mean."""
    of_both = {share: (reference.quantile(share), current.quantile(share)) for share in _SHARES}
    moves = {f"{share * 100:.0f}th percentile": both for share, both in of_both.items()}
    name, (before, after) = max(moves.items(), key=lambda one: abs(one[1][1] - one[1][0]))
    text = f"mean {number(reference.mean)} → {number(current.mean)}"
    return f"{text}, {name} {number(before)} → {number(after)}" if number(before) != number(after) else text


def categories_in_words(current: Categories, reference: Categories) -> str:
    """Return the categories whose share grew most, `es 1 % → 12 %`, at most three; then the one that shrank most."""
    growth = {
        name: (reference.counts.get(name, 0) / reference.rows, current.counts.get(name, 0) / current.rows)
        for name in sorted({*current.counts, *reference.counts})
    }
    ranked = sorted(growth.items(), key=lambda one: one[1][0] - one[1][1])
    grown = [one for one in ranked[:_NAMED] if one[1][1] > one[1][0]]
    shrunk = [one for one in ranked[-1:] if one[1][1] < one[1][0]]
    return ", ".join(f"{clean(name)} {share(before)} → {share(after)}" for name, (before, after) in [*grown, *shrunk])


def number(value: float) -> str:
    """Return a number with three digits that count: `0.0123`, `12.1`, `1,234`."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def share(value: float) -> str:
    """Return a share in per cent: `0.4 %`, `12 %`."""
    return f"{value * 100:.2g} %" if value < 0.1 else f"{value * 100:.0f} %"


def clean(name: str) -> str:
    """Return a name that others chose, fit for a line of text: no control or direction characters, not too long."""
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


_SHARES = (0.05, 0.5, 0.95)
