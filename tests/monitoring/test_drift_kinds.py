"""The kind of a drift: of the inputs, of the outputs, or of the quality of answers to the same inputs."""

import pytest

from nightshift.monitoring.drift_kinds import kinds_of
from nightshift.settings.metrics import DriftKind, Metric
from nightshift.verdict import Verdict

QUIET = {Metric.PROMPT_TOPIC: Verdict.PASS, Metric.TOXICITY: Verdict.PASS, Metric.EXACT_MATCH: Verdict.PASS}


@pytest.mark.parametrize(
    ("moved", "kinds"),
    [
        ({}, {}),
        ({Metric.PROMPT_TOPIC: "FAIL"}, {Metric.PROMPT_TOPIC: DriftKind.DATA}),
        ({Metric.TOXICITY: "WARN"}, {Metric.TOXICITY: DriftKind.OUTPUT}),
        ({Metric.EXACT_MATCH: "FAIL"}, {Metric.EXACT_MATCH: DriftKind.CONCEPT}),
        (
            {Metric.EXACT_MATCH: "FAIL", Metric.TOXICITY: "FAIL"},
            {Metric.EXACT_MATCH: DriftKind.CONCEPT, Metric.TOXICITY: DriftKind.OUTPUT},
        ),
    ],
)
def test_each_metric_that_moved_has_the_kind_of_what_it_measures(moved, kinds):
    assert kinds_of(QUIET | {metric: Verdict(verdict) for metric, verdict in moved.items()}) == kinds


@pytest.mark.parametrize("inputs", [Verdict.WARN, Verdict.FAIL])
def test_answers_that_got_worse_on_other_inputs_are_no_concept_drift(inputs):
    kinds = kinds_of(QUIET | {Metric.PROMPT_TOPIC: inputs, Metric.EXACT_MATCH: Verdict.FAIL})
    assert set(kinds.values()) == {DriftKind.DATA}


def test_without_inputs_that_could_be_judged_nobody_knows_that_they_are_unchanged():
    unjudged = {Metric.PROMPT_TOPIC: Verdict.INSUFFICIENT_DATA, Metric.EXACT_MATCH: Verdict.FAIL}
    assert kinds_of(unjudged) == {Metric.EXACT_MATCH: DriftKind.OUTPUT}
