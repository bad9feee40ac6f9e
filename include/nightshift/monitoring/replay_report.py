"""The page of a replay: what the earlier champion answered, and what the new one says, as numbers and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from nightshift.evaluation.estimates import METRICS
from nightshift.settings.application import Application
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from nightshift.ledger.records import Order
    from nightshift.monitoring.replay import Replayed
    from nightshift.monitoring.verdicts import IntervalVerdict

PARTS = {
    "known": "answers that it was trained on",
    "new": "answers that it never saw",
    "everything": "all rows",
}


def render(
    application: Application,
    interval: str,
    order: Order,
    version: str,
    *,
    measured: Replayed,
    verdict: Verdict,
    reasons: list[str],
    drift: IntervalVerdict,
) -> str:
    """Return the page, which loads nothing. Reasons may quote what people typed: they are escaped."""
    # The style is with the report of an evaluation.
    places = [PackageLoader("nightshift.monitoring", ""), PackageLoader("nightshift.evaluation", "")]
    environment = Environment(loader=ChoiceLoader(places), autoescape=True, undefined=StrictUndefined)
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}".replace("-", "\N{MINUS SIGN}")
    return environment.get_template("replay_report.html.jinja").render(
        application=application,
        metric=application.gate.metric,
        metric_name=METRICS[application.gate.metric].title,
        interval=interval,
        order=order,
        version=version,
        parts=[(title, compared) for part, title in PARTS.items() if (compared := getattr(measured, part)).examples],
        left_out=measured.left_out,
        verdict=verdict,
        reasons=reasons,
        drift=drift,
    )
