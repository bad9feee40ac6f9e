"""The tables that charts are drawn from: one row for each interval or step, with a text for each cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nightshift.dashboard.application import Trend
from nightshift.dashboard.intervals import Answered, Effect, JudgedInterval, start_of
from nightshift.dashboard.mlflow_rest import thinned
from nightshift.ledger.records import Monitor
from nightshift.monitoring.wording import number
from nightshift.settings.metrics import Metric, label_of
from nightshift.shown import shown

POINTS = 120  # of a curve, at most
NAME_CHARACTERS = 60

Cell = tuple[float | None, str]


@dataclass(frozen=True)
class Row:
    """One row.

    :param x: seconds since 1970 of the interval's beginning, or the step.
    :param mark: what starts here, such as `version 3`.
    :param state: a verdict, which marks the point.
    :param cells: number (None: unknown) and words, by column.
    """

    x: float
    label: str
    cells: Sequence[Cell]
    mark: str = ""
    state: str = ""


def effects(trend: Trend, monitor: Monitor, own: Sequence[Metric] = ()) -> list[Row]:
    """Return the largest effect of each interval: drift as a share of its FAIL floor, bias as the gap; then the floors.

    :param own: metrics of the application's own scorers.
    """
    rows: list[Row] = []
    version = ""
    for judged in trend.judged.get(monitor, ()):
        effect = trend.effects.get(judged)
        cells = _drift_cells(judged, effect, own) if monitor == "drift" else _bias_cells(judged, effect)
        answered = trend.answered_by(judged)
        mark = f"version {answered}" if answered not in {"", version} and rows else ""
        version = answered or version
        rows.append(Row(judged.starts.timestamp(), judged.name, cells, shown(mark, 20), judged.verdict.value))
    return rows


def means(trend: Trend) -> list[Row]:
    """Return the mean quality of each interval's responses, and of a challenger's where one answered a share."""

    def cell(answered: Answered | None) -> Cell:
        mean = answered.mean(trend.quality or "", trend.answered[-1]) if answered else None
        return (None, "unknown" if answered else "") if mean is None else (mean * 100, f"{mean * 100:.1f} %")

    return _of_both(trend, cell)


def counts(trend: Trend) -> list[Row]:
    """Return the rows of each interval, and those that a challenger answered."""
    return _of_both(trend, lambda answered: (float(answered.rows), f"{answered.rows:,}") if answered else (None, ""))


def arms(trend: Trend, alone: str) -> list[tuple[str, str]]:
    """Return the column headings of a chart with their roles: `alone` without a challenger, else both versions."""
    return [("champion", "line"), ("challenger", "challenger")] if trend.challenged else [(alone, "line")]


def _of_both(trend: Trend, cell: Callable[[Answered | None], Cell]) -> list[Row]:
    """A row for each interval, with a mark where the challenger's share changes."""
    rows: list[Row] = []
    share = None
    for answered in trend.answered:
        beside = trend.challenged.get(answered.interval)
        now = beside.share if beside else None
        mark = f"{now:.0%}" if now not in {None, share} else ""
        cells = [cell(answered), *([cell(beside)] if trend.challenged else [])]
        rows.append(Row(start_of(answered.interval).timestamp(), answered.name, cells, mark))
        share = now
    return rows


def points(curve: Sequence[tuple[int, float]]) -> list[Row]:
    """Return a training's curve by step, thinned to what a line can show."""
    return [Row(step, str(step), [(value, number(value))]) for step, value in thinned(curve, POINTS)]


def _drift_cells(judged: JudgedInterval, effect: Effect | None, own: Sequence[Metric]) -> list[Cell]:
    if effect is None:
        return [(None, f"{judged.verdict}: nothing was measured"), (None, ""), (None, "")]
    words = f"{judged.verdict}: {label_of(effect.name, own)} {number(effect.value)} beyond chance"
    warn, fail = effect.warn / effect.fail * 100, 100.0
    return [(effect.value / effect.fail * 100, words), (warn, number(effect.warn)), (fail, number(effect.fail))]


def _bias_cells(judged: JudgedInterval, effect: Effect | None) -> list[Cell]:
    if effect is None:
        return [(None, f"{judged.verdict}: no group was large enough"), (None, "")]
    words = f"{judged.verdict}: {shown(effect.name, NAME_CHARACTERS)} {effect.value:.1%}"
    return [(effect.value * 100, words), (effect.fail * 100, f"{effect.fail:.0%}")]
