"""The tables that charts are drawn from: one row a night or step, with what a person reads in each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nightshift.dashboard.application import Trend
from nightshift.dashboard.mlflow_rest import thinned
from nightshift.dashboard.nights import Effect, JudgedNight, start_of
from nightshift.ledger.records import Monitor
from nightshift.monitoring.wording import number
from nightshift.settings.metrics import Metric, label_of
from nightshift.shown import shown

POINTS = 120  # of a curve: as many as a line on a page can show
NAME_CHARACTERS = 60

Cell = tuple[float | None, str]


@dataclass(frozen=True)
class Row:
    """One row.

    :param x: seconds since 1970 of the night's beginning, or the step.
    :param mark: what began here, such as `version 3`.
    :param state: a verdict, by which a point stands out.
    :param cells: number (None: unknown) and words, by column.
    """

    x: float
    label: str
    cells: Sequence[Cell]
    mark: str = ""
    state: str = ""


def effects(trend: Trend, monitor: Monitor, own: Sequence[Metric] = ()) -> list[Row]:
    """Return what moved most in each night: drift as a share of its FAIL floor, bias as the gap; then the floors.

    :param own: metrics of the application's own scorers.
    """
    rows: list[Row] = []
    version = ""
    for night in trend.judged.get(monitor, ()):
        effect = trend.effects.get(night)
        cells = _drift_cells(night, effect, own) if monitor == "drift" else _bias_cells(night, effect)
        answered = trend.answered_by(night)
        mark = f"version {answered}" if answered not in {"", version} and rows else ""
        version = answered or version
        rows.append(Row(night.starts.timestamp(), night.name, cells, shown(mark, 20), night.verdict.value))
    return rows


def means(trend: Trend) -> list[Row]:
    """Return the mean quality of each night's responses."""
    name = trend.quality or ""
    found = []
    for night in trend.answered:
        mean = night.mean(name, trend.answered[-1])
        words = f"{mean * 100:.1f} %" if mean is not None else "unknown"
        found.append(Row(start_of(night.interval).timestamp(), night.name, [(mean and mean * 100, words)]))
    return found


def counts(trend: Trend) -> list[Row]:
    """Return the rows of each night."""
    return [
        Row(start_of(night.interval).timestamp(), night.name, [(float(night.rows), f"{night.rows:,}")])
        for night in trend.answered
    ]


def points(curve: Sequence[tuple[int, float]]) -> list[Row]:
    """Return a training's curve by step, thinned to what a line can show."""
    return [Row(step, str(step), [(value, number(value))]) for step, value in thinned(curve, POINTS)]


def _drift_cells(night: JudgedNight, effect: Effect | None, own: Sequence[Metric]) -> list[Cell]:
    if effect is None:
        return [(None, f"{night.verdict}: nothing was measured"), (None, ""), (None, "")]
    words = f"{night.verdict}: {label_of(effect.name, own)} {number(effect.value)} beyond chance"
    warn, fail = effect.warn / effect.fail * 100, 100.0
    return [(effect.value / effect.fail * 100, words), (warn, number(effect.warn)), (fail, number(effect.fail))]


def _bias_cells(night: JudgedNight, effect: Effect | None) -> list[Cell]:
    if effect is None:
        return [(None, f"{night.verdict}: no group was large enough"), (None, "")]
    words = f"{night.verdict}: {shown(effect.name, NAME_CHARACTERS)} {effect.value:.1%}"
    return [(effect.value * 100, words), (effect.fail * 100, f"{effect.fail:.0%}")]
