"""The metrics of an application: pure functions of what is known of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime

from nightshift.dashboard.intervals import JudgedInterval, start_of
from nightshift.dashboard.ledger import open_retraining
from nightshift.dashboard.state import StateInput, Word, state_of, without_approvals
from nightshift.ledger.budget import bounds, forecast
from nightshift.ledger.spending import spent_by_days
from nightshift.metrics.application_facts import ApplicationFacts
from nightshift.metrics.families import Sample
from nightshift.settings.people import Severity
from nightshift.verdict import Verdict

# Endpoints may return other finish reasons, which do not become labels.
FINISH_REASONS = ("stop", "length", "too_long", "refused", "tool_calls", "content_filter")
EXAMPLE_OUTCOMES = ("kept", "duplicates", "near_duplicates", "quarantined")
OUTCOMES = ("registered", "failed", "cancelled", "lost")


def samples_of(application: ApplicationFacts, waits: Sequence[str], now: datetime) -> Iterator[Sample]:
    """Yield the samples of one application.

    :param waits: the releases that wait for a person, as text.
    """
    for name, labels, value in (
        *_state(application, waits),
        *_verdicts(application),
        *_measures(application),
        *_partitions(application),
        *_champion(application),
        *_retrainings(application, now),
        *_alerts(application),
        *_spending(application, now),
    ):
        yield Sample(f"nightshift_{name}", (application.app.name, *labels), float(value))


Samples = Iterator[tuple[str, tuple[str, ...], float]]


def _state(application: ApplicationFacts, waits: Sequence[str]) -> Samples:
    alerts = without_approvals(application.alerts, waits)
    state = state_of(
        StateInput(
            judged=application.judged,
            champion=application.champion,
            retraining=open_retraining(list(application.retrainings)),
            waits=waits,
            alerts=[(alert.severity, alert.title) for alert in alerts],
            stale=[one for one in application.fresh if one.stale],
        )
    )
    yield "application_readable", (), 1
    yield from (("application_state", (word.replace(" ", "_"),), word is state.word) for word in Word)
    yield "unreadable_records", (), len(application.index.unreadable)
    yield "approvals_waiting", (), len(waits)


def _verdicts(application: ApplicationFacts) -> Samples:
    for monitor, judged in application.judged.items():
        of_champion = [interval for interval in judged if _is_of_champion(application, interval)]
        newest = of_champion[-1].verdict if of_champion else None
        counted = Counter(interval.verdict for interval in judged)
        for verdict in Verdict:
            yield "verdict", (monitor, verdict), verdict is newest
            yield "intervals", (monitor, verdict), counted[verdict]


def _is_of_champion(application: ApplicationFacts, judged: JudgedInterval) -> bool:
    """As the policy counts: what was judged before a release says nothing about the model that is in use since."""
    champion = application.champion
    return champion is None or (judged.model_digest == champion.digest and judged.created >= champion.since)


def _measures(application: ApplicationFacts) -> Samples:
    for metric, excess, warn, fail in application.moved:
        yield "drift_excess", (metric,), excess
        yield "drift_floor", (metric, Verdict.WARN), warn
        yield "drift_floor", (metric, Verdict.FAIL), fail
    yield from (("bias_gap", key, gap) for key, gap in application.gaps.largest.items())
    if application.gaps.limit is not None:
        yield "bias_gap_limit", (), application.gaps.limit
    if application.interactions:
        yield from (
            ("score", (score,), mean) for score, mean in application.interactions.facts.get("means", {}).items()
        )


def _partitions(application: ApplicationFacts) -> Samples:
    for one in application.fresh:
        yield "partition_late", (one.kind,), bool(one.stale)
        if one.written:
            yield "partition_created_timestamp_seconds", (one.kind,), one.written.timestamp()
    intervals = {
        "examples": max(application.index.examples, default=""),
        "interactions": max(application.index.interactions, default=""),
    }
    intervals |= {monitor: judged[-1].interval for monitor, judged in application.judged.items() if judged}
    for kind, key in intervals.items():
        if key:
            yield "partition_interval_start_timestamp_seconds", (kind,), start_of(key).timestamp()
    if application.examples:
        for outcome in EXAMPLE_OUTCOMES:
            yield "example_rows", (outcome,), application.examples.counts.get(outcome, 0)
    if application.interactions:
        counts, generated = application.interactions.counts, application.interactions.facts
        yield "interaction_rows", (), counts.get("rows", 0)
        known = {reason: rows for reason, rows in counts.items() if reason in FINISH_REASONS}
        other = sum(rows for reason, rows in counts.items() if reason != "rows" and reason not in known)
        for reason, rows in {**known, **({"other": other} if other else {})}.items():
            yield "interaction_endings", (reason,), rows
        yield "generation_seconds", (), generated.get("generation_seconds", 0.0)
        yield "generation_tokens", (), generated.get("tokens", 0)


def _champion(application: ApplicationFacts) -> Samples:
    yield "releases_total", (), application.releases[-1].number if application.releases else 0
    verdicts = Counter(record.verdict for record in application.index.gate.values())
    yield from (("gate_decisions", (verdict,), verdicts[verdict]) for verdict in Verdict)
    champion = application.champion
    if champion is None:
        return
    yield "champion_info", (champion.version, champion.digest[:12]), 1
    yield "champion_released_timestamp_seconds", (), champion.since.timestamp()
    if score := champion.score(application.app):
        metric = application.app.gate.metric
        for bound in ("value", "low", "high"):
            yield "champion_score", (metric, bound), getattr(score, bound)


def _retrainings(application: ApplicationFacts, now: datetime) -> Samples:
    yield "retrainings_total", (), max(application.index.orders, default=0)
    results = Counter[str](outcome.result for outcome in application.index.outcomes.values())
    yield from (("retraining_outcomes", (result,), results[result]) for result in OUTCOMES)
    still = open_retraining(list(application.retrainings))
    trains = bool(still and still.claim and still.claim.run_id)
    yield "retraining_open", ("waiting",), bool(still) and not trains
    yield "retraining_open", ("training",), trains
    if still:
        yield "retraining_ordered_timestamp_seconds", (), still.order.created.timestamp()
    if application.snooze and application.snooze.until > now:
        yield "retraining_snoozed_until_timestamp_seconds", (), application.snooze.until.timestamp()


def _alerts(application: ApplicationFacts) -> Samples:
    counted = Counter(alert.severity for alert in application.alerts)
    yield from (("alerts_open", (severity,), counted[severity]) for severity in Severity)
    yield "alerts_undelivered", (), application.undelivered
    if application.looked:
        yield "looked_timestamp_seconds", (), application.looked.timestamp()


def _spending(application: ApplicationFacts, now: datetime) -> Samples:
    budget, expected = application.app.budget, forecast(application.index.outcomes.values())
    yield "next_retraining_gpu_hours", (), expected.gpu_hours
    yield "next_retraining_cost", (), expected.cost
    if application.spending is None:
        return
    spent = spent_by_days(application.spending, budget, now)
    for days, one in spent.items():
        yield "gpu_hours", (str(days),), one.gpu_hours
        yield "pod_hours", (str(days),), one.pod_hours
        for kind, cost in (("pods", one.pod_cost), ("endpoint", one.endpoint_cost), ("storage", one.storage_cost)):
            yield "cost", (kind, str(days)), cost
        yield "tokens", ("prompt", str(days)), one.prompt_tokens
        yield "tokens", ("response", str(days)), one.response_tokens
    if application.spending.storage:
        yield "storage_bytes", (), application.spending.storage.bytes
    for bound in bounds(budget, spent, expected):
        yield "budget", (bound.setting,), bound.most
        yield "budget_used_ratio", (bound.setting,), bound.share
        yield "budget_holds_retraining", (bound.setting,), bool(bound.against)
