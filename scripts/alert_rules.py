"""Prometheus' alert rules, made of the metrics of the endpoint alone; `scripts/build_monitoring.py` writes them."""

from __future__ import annotations

from typing import Any, NamedTuple


class Rule(NamedTuple):
    """One alert: what holds for how long, how bad it is, and what to do."""

    name: str
    expr: str
    hold: str
    severity: str
    summary: str
    todo: str


OF_ALL = (
    Rule(
        "NightshiftMetricsDown",
        'up{job="nightshift"} == 0 or absent(up{job="nightshift"})',
        "5m",
        "critical",
        "Nightshift's metrics cannot be scraped",
        "Look whether Airflow's API server answers, and whether Prometheus has the token that it expects.",
    ),
    Rule(
        "NightshiftSchedulerDown",
        'time() - nightshift_airflow_heartbeat_timestamp_seconds{component="scheduler"} > 120',
        "1m",
        "critical",
        "Airflow's scheduler has had no heartbeat for {{ $value | humanizeDuration }}",
        "No task starts: restart the scheduler and read the end of its log.",
    ),
    Rule(
        "NightshiftComponentDown",
        'time() - nightshift_airflow_heartbeat_timestamp_seconds{component!="scheduler"} > 300',
        "5m",
        "warning",
        "Airflow's {{ $labels.component }} has had no heartbeat for {{ $value | humanizeDuration }}",
        "Restart it and read the end of its log.",
    ),
    Rule(
        "NightshiftHousekeepingDead",
        "time() - max(nightshift_looked_timestamp_seconds) > 1200",
        "5m",
        "critical",
        "Nobody has looked after the applications for {{ $value | humanizeDuration }}",
        "Look whether the scheduler runs and whether the DAG nightshift_alerts is paused or fails; no alert is delivered.",
    ),
    Rule(
        "NightshiftHousekeepingFails",
        "nightshift_housekeeping_works == 0",
        "30m",
        "warning",
        "{{ $labels.dag_id }} fails, is late or is paused",
        "Look at its last run in Airflow.",
    ),
    Rule(
        "NightshiftAirflowUnreadable",
        "nightshift_airflow_readable == 0",
        "5m",
        "critical",
        "Airflow's database cannot be read for metrics",
        "The log of the API server says why.",
    ),
)
OF_APPLICATION = (
    Rule(
        "NightshiftApplicationUnreadable",
        "nightshift_application_readable == 0",
        "10m",
        "critical",
        "{{ $labels.application }}: its file or its storage cannot be read",
        "The dashboard says which line is wrong, or what to check.",
    ),
    Rule(
        "NightshiftUnreadableRecords",
        "nightshift_unreadable_records > 0",
        "1h",
        "warning",
        "{{ $labels.application }}: {{ $value }} partitions or records cannot be read",
        "The log of nightshift_alerts names them.",
    ),
    Rule(
        "NightshiftNoData",
        'nightshift_partition_late{kind!="examples"} == 1',
        "15m",
        "critical",
        "{{ $labels.application }}: the expected {{ $labels.kind }} are not there",
        "Look at the newest run of the DAG that makes them; a monitor without data says nothing.",
    ),
    Rule(
        "NightshiftNoExamples",
        'nightshift_partition_late{kind="examples"} == 1',
        "1h",
        "warning",
        "{{ $labels.application }}: the expected examples are not there",
        "Look at the newest run of ingest, and at its sources.",
    ),
    Rule(
        "NightshiftNoVerdict",
        'nightshift_verdict{verdict=~"INSUFFICIENT_DATA|ERROR"} == 1',
        "5m",
        "warning",
        "{{ $labels.application }}: {{ $labels.monitor }} says {{ $labels.verdict }}",
        "Open the report of the interval.",
    ),
    Rule(
        "NightshiftDriftFail",
        'nightshift_verdict{monitor="drift", verdict="FAIL"} == 1',
        "5m",
        "warning",
        "{{ $labels.application }}: the newest interval drifted",
        "Open the report of the interval; the ledger's decision says whether a retraining follows.",
    ),
    Rule(
        "NightshiftBiasFail",
        'nightshift_verdict{monitor="bias", verdict="FAIL"} == 1',
        "5m",
        "critical",
        "{{ $labels.application }}: a gap between groups exceeds its limit",
        "Open the bias report of the interval.",
    ),
    Rule(
        "NightshiftQuarantine",
        'nightshift_example_rows{outcome="quarantined"} > on (application) '
        "0.2 * sum by (application) (nightshift_example_rows)",
        "15m",
        "warning",
        "{{ $labels.application }}: {{ $value }} rows of the newest interval are in quarantine",
        "Its file quarantine.parquet says why, row by row.",
    ),
    Rule(
        "NightshiftQueueStuck",
        'time() - nightshift_task_waiting_since_timestamp_seconds{state="queued"} > 900',
        "5m",
        "critical",
        "{{ $labels.application }}: a queued task has waited for a worker for {{ $value | humanizeDuration }}",
        "Look whether workers run; where Airflow's executor hangs, restart the scheduler.",
    ),
    Rule(
        "NightshiftPoolFull",
        'time() - nightshift_task_waiting_since_timestamp_seconds{state="scheduled"} > 21600',
        "5m",
        "warning",
        "{{ $labels.application }}: a task has waited for a slot of its pool for {{ $value | humanizeDuration }}",
        "Give the pool more slots, or the application a higher priority.",
    ),
    Rule(
        "NightshiftRetrainingLong",
        "time() - nightshift_retraining_ordered_timestamp_seconds > 172800",
        "5m",
        "warning",
        "{{ $labels.application }}: the open retraining was ordered {{ $value | humanizeDuration }} ago",
        "Look at the run of finetune that trains for it, or at the pool that it waits for.",
    ),
    Rule(
        "NightshiftApprovalWaits",
        "nightshift_approvals_waiting > 0",
        "4h",
        "warning",
        "{{ $labels.application }}: a release waits for a person",
        "Answer it in Airflow; no answer in time rejects it.",
    ),
    Rule(
        "NightshiftAlertsUndelivered",
        "nightshift_alerts_undelivered > 0",
        "1h",
        "warning",
        "{{ $labels.application }}: {{ $value }} routes do not take their messages",
        "The mailbox page says which and why.",
    ),
    Rule(
        "NightshiftBudgetNearlySpent",
        "nightshift_budget_used_ratio >= 0.8",
        "5m",
        "warning",
        "{{ $labels.application }}: {{ $value | humanizePercentage }} of budget.{{ $labels.setting }} is used",
        "Choose a smaller compute profile or raise the budget.",
    ),
    Rule(
        "NightshiftBudgetHoldsRetraining",
        "nightshift_budget_holds_retraining == 1",
        "5m",
        "warning",
        "{{ $labels.application }}: budget.{{ $labels.setting }} has no room for a retraining",
        "Nothing is retrained until it has; raise it, or force a retraining that is needed.",
    ),
)


def alert_rules(hold: str | None = None) -> dict[str, Any]:
    """Return the content of a rules file.

    :param hold: for how long a condition must hold in place of each rule's own time, as `0s`.
    """
    groups = {"nightshift": OF_ALL, "nightshift-applications": OF_APPLICATION}
    return {
        "groups": [{"name": name, "rules": [_rule(rule, hold) for rule in rules]} for name, rules in groups.items()]
    }


def _rule(rule: Rule, hold: str | None) -> dict[str, Any]:
    return {
        "alert": rule.name,
        "expr": rule.expr,
        "for": hold or rule.hold,
        "labels": {"severity": rule.severity},
        "annotations": {"summary": rule.summary, "description": rule.todo},
    }
