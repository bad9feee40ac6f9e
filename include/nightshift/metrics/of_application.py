"""The metrics of an application: pure functions of its facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime

from nightshift.dashboard.intervals import JudgedInterval, start_of
from nightshift.dashboard.ledger import open_retraining
from nightshift.dashboard.state import Facts, Word, state_of, without_approvals
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


def samples_of(facts: ApplicationFacts, waits: Sequence[str], now: datetime) -> Iterator[Sample]:
    """Yield the samples of one application.

    :param waits: the releases that wait for a person, as text.
    """
    for name, labels, value in (
        *_state(facts, waits),
        *_verdicts(facts),
        *_measures(facts),
        *_partitions(facts),
        *_champion(facts),
        *_retrainings(facts, now),
        *_alerts(facts),
        *_spending(facts, now),
    ):
        yield Sample(f"nightshift_{name}", (facts.app.name, *labels), float(value))


Samples = Iterator[tuple[str, tuple[str, ...], float]]


def _state(facts: ApplicationFacts, waits: Sequence[str]) -> Samples:
    alerts = without_approvals(facts.alerts, waits)
    state = state_of(
        Facts(
            judged=facts.judged,
            champion=facts.champion,
            retraining=open_retraining(list(facts.retrainings)),
            waits=waits,
            alerts=[(alert.severity, alert.title) for alert in alerts],
            stale=[one for one in facts.fresh if one.stale],
        )
    )
    yield "application_readable", (), 1
    yield from (("application_state", (word.replace(" ", "_"),), word is state.word) for word in Word)
    yield "unreadable_records", (), len(facts.index.unreadable)
    yield "approvals_waiting", (), len(waits)


def _verdicts(facts: ApplicationFacts) -> Samples:
    for monitor, judged in facts.judged.items():
        of_champion = [interval for interval in judged if _is_of_champion(facts, interval)]
        newest = of_champion[-1].verdict if of_champion else None
        counted = Counter(interval.verdict for interval in judged)
        for verdict in Verdict:
            yield "verdict", (monitor, verdict), verdict is newest
            yield "intervals", (monitor, verdict), counted[verdict]


def _is_of_champion(facts: ApplicationFacts, judged: JudgedInterval) -> bool:
    """As the policy counts: what was judged before a release says nothing about the model that is in use since."""
    champion = facts.champion
    return champion is None or (judged.model_digest == champion.digest and judged.created >= champion.since)


def _measures(facts: ApplicationFacts) -> Samples:
    for metric, excess, warn, fail in facts.moved:
        yield "drift_excess", (metric,), excess
        yield "drift_floor", (metric, Verdict.WARN), warn
        yield "drift_floor", (metric, Verdict.FAIL), fail
    yield from (("bias_gap", key, gap) for key, gap in facts.gaps.largest.items())
    if facts.gaps.limit is not None:
        yield "bias_gap_limit", (), facts.gaps.limit
    if facts.interactions:
        yield from (("score", (score,), mean) for score, mean in facts.interactions.facts.get("means", {}).items())


def _partitions(facts: ApplicationFacts) -> Samples:
    for one in facts.fresh:
        yield "partition_late", (one.kind,), bool(one.stale)
        if one.written:
            yield "partition_created_timestamp_seconds", (one.kind,), one.written.timestamp()
    intervals = {
        "examples": max(facts.index.examples, default=""),
        "interactions": max(facts.index.interactions, default=""),
    }
    intervals |= {monitor: judged[-1].interval for monitor, judged in facts.judged.items() if judged}
    for kind, key in intervals.items():
        if key:
            yield "partition_interval_start_timestamp_seconds", (kind,), start_of(key).timestamp()
    if facts.examples:
        for outcome in EXAMPLE_OUTCOMES:
            yield "example_rows", (outcome,), facts.examples.counts.get(outcome, 0)
    if facts.interactions:
        counts, generated = facts.interactions.counts, facts.interactions.facts
        yield "interaction_rows", (), counts.get("rows", 0)
        known = {reason: rows for reason, rows in counts.items() if reason in FINISH_REASONS}
        other = sum(rows for reason, rows in counts.items() if reason != "rows" and reason not in known)
        for reason, rows in {**known, **({"other": other} if other else {})}.items():
            yield "interaction_endings", (reason,), rows
        yield "generation_seconds", (), generated.get("generation_seconds", 0.0)
        yield "generation_tokens", (), generated.get("tokens", 0)


def _champion(facts: ApplicationFacts) -> Samples:
    yield "releases_total", (), facts.releases[-1].number if facts.releases else 0
    verdicts = Counter(record.verdict for record in facts.index.gate.values())
    yield from (("gate_decisions", (verdict,), verdicts[verdict]) for verdict in Verdict)
    champion = facts.champion
    if champion is None:
        return
    yield "champion_info", (champion.version, champion.digest[:12]), 1
    yield "champion_released_timestamp_seconds", (), champion.since.timestamp()
    if score := champion.score(facts.app):
        metric = facts.app.gate.metric
        for bound in ("value", "low", "high"):
            yield "champion_score", (metric, bound), getattr(score, bound)


def _retrainings(facts: ApplicationFacts, now: datetime) -> Samples:
    yield "retrainings_total", (), max(facts.index.orders, default=0)
    results = Counter[str](outcome.result for outcome in facts.index.outcomes.values())
    yield from (("retraining_outcomes", (result,), results[result]) for result in OUTCOMES)
    still = open_retraining(list(facts.retrainings))
    trains = bool(still and still.claim and still.claim.run_id)
    yield "retraining_open", ("waiting",), bool(still) and not trains
    yield "retraining_open", ("training",), trains
    if still:
        yield "retraining_ordered_timestamp_seconds", (), still.order.created.timestamp()
    if facts.snooze and facts.snooze.until > now:
        yield "retraining_snoozed_until_timestamp_seconds", (), facts.snooze.until.timestamp()


def _alerts(facts: ApplicationFacts) -> Samples:
    counted = Counter(alert.severity for alert in facts.alerts)
    yield from (("alerts_open", (severity,), counted[severity]) for severity in Severity)
    yield "alerts_undelivered", (), facts.undelivered
    if facts.looked:
        yield "looked_timestamp_seconds", (), facts.looked.timestamp()


def _spending(facts: ApplicationFacts, now: datetime) -> Samples:
    budget, expected = facts.app.budget, forecast(facts.index.outcomes.values())
    yield "next_retraining_gpu_hours", (), expected.gpu_hours
    yield "next_retraining_cost", (), expected.cost
    if facts.spending is None:
        return
    spent = spent_by_days(facts.spending, budget, now)
    for days, one in spent.items():
        yield "gpu_hours", (str(days),), one.gpu_hours
        yield "pod_hours", (str(days),), one.pod_hours
        for kind, cost in (("pods", one.pod_cost), ("endpoint", one.endpoint_cost), ("storage", one.storage_cost)):
            yield "cost", (kind, str(days)), cost
        yield "tokens", ("prompt", str(days)), one.prompt_tokens
        yield "tokens", ("response", str(days)), one.response_tokens
    if facts.spending.storage:
        yield "storage_bytes", (), facts.spending.storage.bytes
    for bound in bounds(budget, spent, expected):
        yield "budget", (bound.setting,), bound.most
        yield "budget_used_ratio", (bound.setting,), bound.share
        yield "budget_holds_retraining", (bound.setting,), bool(bound.against)
