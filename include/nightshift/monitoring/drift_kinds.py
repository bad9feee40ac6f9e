"""Classifies the drift of a metric: data drift, output drift or concept drift."""

from __future__ import annotations

from collections.abc import Mapping

from nightshift.settings.metrics import DriftKind, Metric
from nightshift.verdict import Verdict

_MOVED = frozenset({Verdict.WARN, Verdict.FAIL})


def kinds_of(verdicts: Mapping[Metric, Verdict]) -> dict[Metric, DriftKind]:
    """Return the kind of drift of each metric that is WARN or FAIL, by its group. Pure.

    Inputs are data drift; outputs and scores are output drift. Quality is concept drift where inputs were judged and none
    of them moved; where inputs moved it goes with them, as data drift; where no input could be judged, nobody knows that
    they are unchanged, and it is output drift.

    :param verdicts: of all metrics of an interval.
    """
    inputs = {verdict for metric, verdict in verdicts.items() if metric.group == "inputs"}
    quality = DriftKind.CONCEPT if Verdict.PASS in inputs else DriftKind.OUTPUT
    if inputs & _MOVED:
        quality = DriftKind.DATA
    kinds = {"inputs": DriftKind.DATA, "quality": quality}
    return {
        metric: kinds.get(metric.group, DriftKind.OUTPUT) for metric, verdict in verdicts.items() if verdict in _MOVED
    }
