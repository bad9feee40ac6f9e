"""In which scores an interval can be compared with a reference: values that different versions of a scorer gave never are.

What made them is an input of interactions and references alike: of a team's own scorer the function, the digest of its
module, its kind and its bounds; of the judge where it is, its model and rubric; of ours the version of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nightshift.data.interactions import SCORES
from nightshift.settings.application import Application
from nightshift.settings.judging import OPINION
from nightshift.settings.metrics import BUILT_IN, CATEGORICAL, Metric
from nightshift.settings.scorers import Scorer
from nightshift.storage.manifest import Manifest

REFERENCE_ANEW = "the next finetune keeps the model and makes its reference anew"
INTERVAL_ANEW = "run batch_inference for this interval again"


def measured_alike(interactions: Manifest, reference: Manifest) -> list[Metric]:
    """Return the own metrics whose values in both partitions were made by the same: what a profile can hold of them."""
    ours, theirs = _made_by(interactions), _made_by(reference)
    return [Scorer.model_validate(made).metric(name) for name, made in ours.items() if theirs.get(name) == made]


def categorical_in(reference: Manifest) -> frozenset[str]:
    """Return the metrics whose values are categories in a reference, and in every profile that was made against it."""
    own = (name for name, made in _made_by(reference).items() if made["kind"] == "category")
    return CATEGORICAL.union(own)


def own_metrics(application: Application, interactions: Manifest, reference: Manifest) -> dict[Metric, str]:
    """Return the application's own metrics that the interactions have, each with why it cannot be compared, "" where it can."""
    ours, theirs = _made_by(interactions), _made_by(reference)
    found = {}
    for metric in application.own_metrics:
        made = ours.get(metric)
        if made is None:  # scored before the scorer was added: nobody expected a value
            continue
        if metric not in theirs:
            why = f"its scorer was added after the reference was made; {REFERENCE_ANEW}"
        elif theirs[metric] != made:
            newest = application.scorers[metric].made_by
            advice = INTERVAL_ANEW if theirs[metric] == newest else REFERENCE_ANEW
            why = f"the interval and the reference were scored by different versions of the scorer; {advice}"
        elif made["kind"] != application.scorers[metric].kind:
            why = f"its kind was {made['kind']} when the interval was scored; {REFERENCE_ANEW}"
        elif said := reference.facts.get("given_up", {}).get(metric):
            why = f"in the reference its scorer was {said}; once its module is changed, {REFERENCE_ANEW}"
        elif said := interactions.facts.get("given_up", {}).get(metric):
            # The rows before are the interval's first, and not like all of it.
            why = f"its scorer was {said}; the log of the task score says what failed"
        else:
            why = ""
        found[metric] = why
    return found


def scored_apart(application: Application, interactions: Manifest, reference: Manifest) -> dict[Metric, str]:
    """Return our scores with why they cannot be compared: other scorers, another precision or another judge gave them."""
    ours, theirs = interactions.inputs.get("version"), reference.inputs.get("scores")
    if ours != theirs:
        why = f"the interval has version {ours} of the scores, the reference {theirs}; {INTERVAL_ANEW}"
        return {metric: why for metric in BUILT_IN if metric in SCORES}
    found = {}
    precisions = [manifest.inputs.get("precision", "float32") for manifest in (interactions, reference)]
    if precisions[0] != precisions[1]:
        advice = INTERVAL_ANEW if precisions[1] == application.scoring.precision else REFERENCE_ANEW
        why = "the interval was scored in {}, the reference in {}; ".format(*precisions) + advice
        found = {Metric.REFUSAL: why, Metric.TOXICITY: why}
    judges = [manifest.inputs.get("judge") for manifest in (interactions, reference)]
    now, before, newest = ({key: (one or {}).get(key) for key in OPINION} for one in (*judges, application.judged_by))
    if now == before or None in judges:
        return found
    advice = INTERVAL_ANEW if before == newest else REFERENCE_ANEW
    return found | {
        Metric.JUDGE: f"the judge has another model, rubric or version than that of the reference; {advice}"
    }


def _made_by(manifest: Manifest) -> Mapping[str, Any]:
    return manifest.inputs.get("scorers", {})
