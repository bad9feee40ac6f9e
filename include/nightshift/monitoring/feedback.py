"""What people said in an interval as metrics of its verdict: the share of bad judgements, and the mean rating.

No reference has them, so each is held against its floors: the effect is the share, or how far the mean is below the best
rating, and what counts is what it is at least, at the policy's significance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import sqrt
from statistics import NormalDist

from upath import UPath

from nightshift.errors import BadInput
from nightshift.monitoring.due_intervals import Answered
from nightshift.monitoring.metric_verdict import MetricVerdict
from nightshift.monitoring.verdicts import floors
from nightshift.settings.application import Application
from nightshift.settings.metrics import Metric
from nightshift.settings.policies import Drift
from nightshift.storage.files import read_each
from nightshift.storage.manifest import digest_of, read_manifest, require_manifest
from nightshift.storage.partition import partition_of
from nightshift.verdict import Verdict

RATING_FLOORS = 0.25, 0.5  # WARN and FAIL: of five stars, a mean below four and below three
UNREADABLE = "unreadable"


def with_feedback(storage: str, application: Application, answered: Sequence[Answered]) -> list[Answered]:
    """Return the interactions with the digests of their intervals' feedback, where the application has feedback."""
    if application.feedback is None or not answered:
        return list(answered)
    partitions = [partition_of(storage, application.name, "feedback", one.key) for one in answered]
    digests = read_each(partitions[0], _digests, partitions)
    return [
        replace(interactions, feedback=said, feedback_partition=partition)
        for interactions, (said, partition) in zip(answered, digests, strict=True)
    ]


def _digests(partition: UPath) -> tuple[str, str]:
    try:
        manifest = read_manifest(partition)
    except BadInput:
        return UNREADABLE, ""  # the interval's own verdict says so
    if manifest is None:
        return "", ""
    models = manifest.facts["models"]
    return digest_of(models) if models else "", manifest.digest


def feedback_of(
    storage: str, application: Application, interactions: Answered, model_digest: str
) -> list[MetricVerdict]:
    """Return the verdicts on what people said, in an interval, of the answers of the model that answered it.

    :param model_digest: as interactions have it; "": served elsewhere.
    :raises BadInput: the feedback cannot be read, or was made again since the interval was found due.
    """
    if application.feedback is None:
        return []
    said: Mapping[str, float] = {}
    if interactions.feedback:
        partition = partition_of(storage, application.name, "feedback", interactions.key)
        models = require_manifest(partition).facts["models"]
        if digest_of(models) != interactions.feedback:
            raise BadInput(f"{partition}: people said more since the interval was found due; the next run judges it")
        said = models.get(model_digest, {})
    rated = any(source.columns.rating for source in application.feedback.sources)
    return feedback_verdicts(said, application.drift, rated=rated)


def feedback_verdicts(said: Mapping[str, float], policy: Drift, *, rated: bool) -> list[MetricVerdict]:
    """Return the verdicts on a model's judgements. Pure.

    The share of bad ones is at least the lower end of Wilson's interval, one-sided (Wilson 1927; Agresti and Coull 1998,
    doi:10.1080/00031305.1998.10480550); the mean is below the best by at least its distance less z standard errors. With
    fewer than `policy.min_rows` judgements the verdict is INSUFFICIENT_DATA.

    :param said: `judged`, `bad`, `rated`, `rating_sum` and `rating_squares`; empty: nobody said anything.
    :param rated: whether people are asked for ratings.
    """
    z = NormalDist().inv_cdf(1 - policy.significance)
    verdicts = []
    count = int(said.get("judged", 0))
    warn, fail = floors(policy, Metric.BAD_FEEDBACK)
    if fail:
        share = said["bad"] / count if count else 0.0
        lower = _wilson(share, count, z) if count else 0.0
        null = min(warn, 1.0)
        error = sqrt(null * (1 - null) / count) if count else 0.0
        words = f"{share:.0%} of {count:,} judgements"
        verdicts.append(_verdict(Metric.BAD_FEEDBACK, policy, count, (share, lower, error), (warn, fail), words))
    count = int(said.get("rated", 0))
    warn, fail = floors(policy, Metric.MEAN_RATING) if Metric.MEAN_RATING in policy.metrics else RATING_FLOORS
    if rated and fail:
        mean = said["rating_sum"] / count if count else 1.0
        squares = said["rating_squares"] - count * mean**2 if count else 0.0
        error = sqrt(max(squares, 0.0) / (count - 1) / count) if count > 1 else 0.0
        words = f"{mean:.2f} from 0 (worst) to 1, of {count:,} ratings"
        measured = (1 - mean, max(1 - mean - z * error, 0.0), error)
        verdicts.append(_verdict(Metric.MEAN_RATING, policy, count, measured, (warn, fail), words))
    return verdicts


def _wilson(share: float, count: int, z: float) -> float:
    middle, spread = share + z**2 / (2 * count), z * sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max((middle - spread) / (1 + z**2 / count), 0.0)


def _verdict(  # noqa: PLR0917
    metric: Metric,
    policy: Drift,
    count: int,
    measured: tuple[float, float, float],
    limits: tuple[float, float],
    words: str,
) -> MetricVerdict:
    """:param measured: the effect, what it is at least, and its standard error at the WARN floor."""
    (effect, lower, error), (warn, fail) = measured, limits
    if count < policy.min_rows:
        return MetricVerdict(
            metric=metric, verdict=Verdict.INSUFFICIENT_DATA, rows=count, reference_rows=0, warn=warn, fail=fail
        )
    p_value = NormalDist().cdf((warn - effect) / error) if error else float(effect <= warn)
    return MetricVerdict(
        metric=metric,
        verdict=Verdict.FAIL if lower >= fail else Verdict.WARN if lower >= warn else Verdict.PASS,
        rows=count,
        reference_rows=0,
        effect=effect,
        expected_by_chance=effect - lower,
        excess=lower,
        p_value=p_value,
        q_value=p_value,
        warn=warn,
        fail=fail,
        direction=words,
    )
