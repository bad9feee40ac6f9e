"""All metrics of the endpoint with their labels and help texts. docs/metrics.md lists the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

Labels = tuple[str, ...]


class Family(NamedTuple):
    """One metric.

    :param name: with its unit; that of a counter ends in `_total`.
    :param labels: in the order in which a :class:`Sample` gives their values.
    """

    name: str
    help: str
    labels: Labels = ("application",)
    type: Literal["gauge", "counter"] = "gauge"


class Sample(NamedTuple):
    """A value of a family."""

    name: str
    labels: Labels
    value: float


APPLICATION = "application"
OF_APPLICATION = (
    Family(
        "nightshift_application_readable", "1 where its file and its storage could be read, else 0 and nothing else."
    ),
    Family("nightshift_application_state", "1 for the word of the dashboard that holds.", (APPLICATION, "state")),
    Family("nightshift_unreadable_records", "Partitions and records of the ledger that cannot be read."),
    Family(
        "nightshift_verdict",
        "1 for what the monitor said of the newest interval of the champion; 0 for all before its first.",
        (APPLICATION, "monitor", "verdict"),
    ),
    Family(
        "nightshift_intervals",
        "How many of the newest 90 intervals of the monitor have this verdict.",
        (APPLICATION, "monitor", "verdict"),
    ),
    Family("nightshift_drift_excess", "Effect of the newest interval beyond chance.", (APPLICATION, "metric")),
    Family(
        "nightshift_drift_floor", "Excess from which the metric is WARN or FAIL.", (APPLICATION, "metric", "verdict")
    ),
    Family(
        "nightshift_bias_gap",
        "Largest gap between groups of the newest interval, by the dimension of the groups; the 60 largest of them.",
        (APPLICATION, "dimension", "metric"),
    ),
    Family("nightshift_bias_gap_limit", "Gap above which bias is FAIL."),
    Family("nightshift_score", "Mean of a score over the responses of the newest interval.", (APPLICATION, "score")),
    Family(
        "nightshift_partition_created_timestamp_seconds",
        "When the newest partition of the kind was published.",
        (APPLICATION, "kind"),
    ),
    Family(
        "nightshift_partition_interval_start_timestamp_seconds",
        "When the interval of the newest partition of the kind begins.",
        (APPLICATION, "kind"),
    ),
    Family(
        "nightshift_partition_late",
        "1 where the schedule expects a newer partition of the kind, or the champion has no reference.",
        (APPLICATION, "kind"),
    ),
    Family(
        "nightshift_example_rows",
        "Rows of the newest interval of examples, by what became of them.",
        (APPLICATION, "outcome"),
    ),
    Family("nightshift_interaction_rows", "Rows of the newest interval of interactions."),
    Family(
        "nightshift_interaction_endings",
        "Responses of the newest interval by how they ended.",
        (APPLICATION, "finish_reason"),
    ),
    Family("nightshift_generation_seconds", "Time that the responses of the newest interval took, over all nodes."),
    Family("nightshift_generation_tokens", "Tokens of the responses of the newest interval."),
    Family("nightshift_champion_info", "1, with the champion's version.", (APPLICATION, "version", "model")),
    Family("nightshift_champion_released_timestamp_seconds", "When the champion was released."),
    Family(
        "nightshift_champion_score",
        "Score of the champion in its evaluation by the metric of the gate, and its 95 % interval.",
        (APPLICATION, "metric", "bound"),
    ),
    Family("nightshift_releases_total", "Releases ever.", (APPLICATION,), "counter"),
    Family("nightshift_retrainings_total", "Retrainings ever ordered.", (APPLICATION,), "counter"),
    Family(
        "nightshift_retraining_open", "1 for what the open order does, 0 where none is open.", (APPLICATION, "state")
    ),
    Family("nightshift_retraining_ordered_timestamp_seconds", "When the open retraining was ordered."),
    Family(
        "nightshift_retraining_outcomes",
        "How the newest 100 retrainings ended.",
        (APPLICATION, "result"),
    ),
    Family(
        "nightshift_retraining_snoozed_until_timestamp_seconds", "Until when nothing is ordered, where it is snoozed."
    ),
    Family(
        "nightshift_gate_decisions",
        "What the gate said of the newest 100 candidates.",
        (APPLICATION, "verdict"),
    ),
    Family("nightshift_approvals_waiting", "Releases that wait for a person."),
    Family("nightshift_alerts_open", "Conditions that hold, as bad as they were told.", (APPLICATION, "severity")),
    Family("nightshift_alerts_undelivered", "Routes that lack a message."),
    Family("nightshift_looked_timestamp_seconds", "When the DAG nightshift_alerts last looked after the application."),
    Family("nightshift_gpu_hours", "GPU-hours of pods that ended in the last days.", (APPLICATION, "days")),
    Family("nightshift_pod_hours", "Hours of pods that ended in the last days.", (APPLICATION, "days")),
    Family(
        "nightshift_cost",
        "Cost of the last days, in the currency of the prices in settings.",
        (APPLICATION, "kind", "days"),
    ),
    Family(
        "nightshift_tokens",
        "Tokens of prompts and responses of intervals published in the last days.",
        (APPLICATION, "direction", "days"),
    ),
    Family("nightshift_storage_bytes", "Size of all its files in storage at the last count."),
    Family("nightshift_budget", "Bound of the budget, in GPU-hours or in the currency.", (APPLICATION, "setting")),
    Family("nightshift_budget_used_ratio", "Used of the bound; 1 is all of it.", (APPLICATION, "setting")),
    Family(
        "nightshift_budget_holds_retraining",
        "1 where the bound keeps a retraining from being ordered.",
        (APPLICATION, "setting"),
    ),
    Family("nightshift_next_retraining_gpu_hours", "GPU-hours that the next retraining is expected to take."),
    Family("nightshift_next_retraining_cost", "Cost that the next retraining is expected to have."),
)
OF_AIRFLOW = (
    Family("nightshift_tasks", "Tasks that are not done.", (APPLICATION, "state")),
    Family(
        "nightshift_task_waiting_since_timestamp_seconds",
        "Since when the task waits that waits longest: for a slot of its pool (scheduled), or for a worker (queued).",
        (APPLICATION, "state"),
    ),
    Family("nightshift_dag_runs", "DAG runs that are not done.", (APPLICATION, "state")),
    Family("nightshift_job_seconds", "What the job took when its DAG last succeeded.", (APPLICATION, "job")),
    Family(
        "nightshift_job_peak_memory_bytes",
        "The most memory that the job used when its DAG last succeeded.",
        (APPLICATION, "job"),
    ),
    Family(
        "nightshift_job_tokens_per_second",
        "Speed of the training or generation when its DAG last succeeded.",
        (APPLICATION, "job"),
    ),
    Family(
        "nightshift_airflow_heartbeat_timestamp_seconds",
        "Newest heartbeat of Airflow's scheduler, DAG processor or triggerer.",
        ("component",),
    ),
    Family(
        "nightshift_housekeeping_ended_timestamp_seconds",
        "When a DAG that looks after all applications last ended.",
        ("dag_id",),
    ),
    Family(
        "nightshift_housekeeping_works", "1 where its last run succeeded and the next one is not late.", ("dag_id",)
    ),
    Family("nightshift_airflow_readable", "1 where Airflow's database could be read.", ()),
    Family("nightshift_scrape_duration_seconds", "Time that gathering all of this took.", ()),
)
FAMILIES = {family.name: family for family in (*OF_APPLICATION, *OF_AIRFLOW)}


def exposed(samples: Iterable[Sample]) -> list[Metric]:
    """Return samples as metrics of Prometheus, in the order of the table; one without a sample is left out."""
    made: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
    for name, labels, value in samples:
        family = FAMILIES[name]
        if name not in made:
            kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
            made[name] = kind(name, family.help, labels=family.labels)
        made[name].add_metric(labels, value)
    return [made[name] for name in FAMILIES if name in made]
