"""The page of a search: all trials on the rows of the first rung, as a table and a plot of score against price."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nightshift.evaluation.estimates import metric_of
from nightshift.evaluation.halving import Scored, SearchFile, pareto

PRICES = ("cost", "latency_ms", "context_words")  # the price of a trial: the first metric that all trials have
WIDTH, HEIGHT = 640, 300  # of the picture's axes, in pixels


def render(application: str, found: SearchFile) -> str:
    """Return the page, without external resources. Texts of the application's file are escaped.

    The first rung is the only one whose rows all trials answered.
    """
    trials = {one.trial: one for one in found.rungs[0]}
    names = dict.fromkeys(name for one in trials.values() for name in one.metrics if name != found.metric)
    price = price_of(trials)
    points = {trial: (one.score, one.metrics[price]) for trial, one in trials.items()} if price else {}
    front = pareto(points)
    environment = Environment(
        loader=PackageLoader("nightshift.evaluation", ""), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("search_report.html.jinja").render(
        application=application, found=found, trials=trials, front=front, measure=metric_of(found.metric),
        metrics={name: metric_of(name) for name in names}, price=metric_of(price) if price else None,
        places=_places(points), line=sorted((points[trial][1], trial) for trial in front), width=WIDTH, height=HEIGHT,
        ends=_ends(points), rung_of={one.trial: one.rung for rung in found.rungs for one in rung},
    )  # fmt: skip


def price_of(trials: dict[int, Scored]) -> str | None:
    """Return the metric for the price of trials; None if no such metric is known for all of them."""
    known = (name for name in PRICES if all(name in one.metrics for one in trials.values()))
    return next((name for name in known if any(one.metrics[name] for one in trials.values())), None)


def _ends(points: dict[int, tuple[float, float]]) -> Any:
    """The lowest and the highest score, and the highest price."""
    scores = [score for score, _ in points.values()] or [0.0]
    return min(scores), max(scores), max((price for _, price in points.values()), default=0.0)


def _places(points: dict[int, tuple[float, float]]) -> dict[int, tuple[float, float]]:
    """The position of each trial in the plot, in pixels from its upper left corner."""
    low, high, most = _ends(points)
    return {
        trial: (round(WIDTH * price / most, 1), round(HEIGHT * (1 - (score - low) / ((high - low) or 1)), 1))
        for trial, (score, price) in points.items()
    }
