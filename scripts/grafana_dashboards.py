"""Grafana's dashboards, built with Grafana's own SDK; `scripts/build_monitoring.py` writes them."""

from __future__ import annotations

from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, DataTransformerConfig, VariableRefresh
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
ONE = '{application="$application"}'
KINDS: dict[str, Any] = {
    "lines": timeseries.Panel,
    "number": stat.Panel,
    "table": table.Panel,
    "states": statetimeline.Panel,
}


class Panel(NamedTuple):
    """A panel: `queries` as legend -> PromQL; `width` of 24."""

    title: str
    queries: dict[str, str]
    kind: str = "lines"
    unit: str = ""
    width: int = 8
    height: int = 7


def verdicts(monitor: str) -> str:
    """PASS 1, WARN 2, INSUFFICIENT_DATA 3, FAIL 4, ERROR 5, as one series."""
    words = ("PASS", "WARN", "INSUFFICIENT_DATA", "FAIL", "ERROR")
    ranked = (
        f'{rank} * nightshift_verdict{{monitor="{monitor}", verdict="{word}"}}' for rank, word in enumerate(words, 1)
    )
    return "max by (application) (" + " or ".join(ranked) + ")"


def of_one(metric: str, more: str = "") -> str:
    """The series of a metric of the chosen application."""
    return metric + ONE.replace("}", f", {more}}}" if more else "}")


def dcgm(metric: str) -> str:
    """A metric of the DCGM exporter, of the pods of the chosen application, by the label that every pod of ours has."""
    pods = 'kube_pod_labels{label_nightshift_application="$application"}'
    return f"{metric} * on (namespace, pod) group_left (label_nightshift_job, label_run_id) {pods}"


FLEET = (
    Panel(
        "Applications by state",
        {"{{state}}": "sum by (state) (nightshift_application_state)"},
        width=12,
    ),
    Panel("Firing alerts", {"": 'count by (alertname, severity) (ALERTS{alertstate="firing"})'}, "table", width=12),
    Panel("State", {"": "nightshift_application_state == 1"}, "table", width=12, height=10),
    Panel("Late", {"": "nightshift_partition_late == 1"}, "table", width=12, height=10),
    Panel(
        "Drift: 1 PASS, 2 WARN, 3 no data, 4 FAIL, 5 ERROR",
        {"{{application}}": verdicts("drift")},
        "states",
        width=12,
        height=10,
    ),
    Panel(
        "Bias: 1 PASS, 2 WARN, 3 no data, 4 FAIL, 5 ERROR",
        {"{{application}}": verdicts("bias")},
        "states",
        width=12,
        height=10,
    ),
    Panel("Tasks", {"{{state}}": "sum by (state) (nightshift_tasks)"}),
    Panel(
        "Longest wait for a worker",
        {"{{application}}": 'time() - nightshift_task_waiting_since_timestamp_seconds{state="queued"}'},
        unit="s",
    ),
    Panel("Open retrainings", {"{{state}}": "sum by (state) (nightshift_retraining_open)"}),
    Panel(
        "Heartbeats of Airflow",
        {"{{component}}": "time() - nightshift_airflow_heartbeat_timestamp_seconds"},
        unit="s",
    ),
    Panel("Since the last look", {"{{application}}": "time() - nightshift_looked_timestamp_seconds"}, unit="s"),
    Panel("Undelivered alerts", {"{{application}}": "nightshift_alerts_undelivered > 0"}),
)
APPLICATION = (
    Panel("State", {"{{state}}": of_one("nightshift_application_state") + " == 1"}, "number", width=6, height=5),
    Panel("Champion", {"version {{version}}": of_one("nightshift_champion_info")}, "number", width=6, height=5),
    Panel(
        "Age of the champion",
        {"": "time() - " + of_one("nightshift_champion_released_timestamp_seconds")},
        "number",
        "s",
        6,
        5,
    ),
    Panel("Approvals waiting", {"": of_one("nightshift_approvals_waiting")}, "number", width=6, height=5),
    Panel("Scores of the newest interval", {"{{score}}": of_one("nightshift_score")}, width=12),
    Panel(
        "Drift against its FAIL floor",
        {
            "{{metric}}": of_one("nightshift_drift_excess")
            + " / on (application, metric) "
            + of_one("nightshift_drift_floor", 'verdict="FAIL"')
        },
        unit="percentunit",
        width=12,
    ),
    Panel("Gaps between groups", {"{{dimension}} {{metric}}": of_one("nightshift_bias_gap")}, width=12),
    Panel("Intervals by verdict", {"{{monitor}} {{verdict}}": of_one("nightshift_intervals")}, width=12),
    Panel("Examples", {"{{outcome}}": of_one("nightshift_example_rows")}),
    Panel("Interactions", {"rows": of_one("nightshift_interaction_rows")}),
    Panel("Endings of responses", {"{{finish_reason}}": of_one("nightshift_interaction_endings")}),
    Panel("Job time", {"{{job}}": of_one("nightshift_job_seconds")}, unit="s"),
    Panel("Job memory", {"{{job}}": of_one("nightshift_job_peak_memory_bytes")}, unit="bytes"),
    Panel("Tokens a second", {"{{job}}": of_one("nightshift_job_tokens_per_second")}),
    Panel(
        "Age of the newest partition",
        {"{{kind}}": "time() - " + of_one("nightshift_partition_created_timestamp_seconds")},
        unit="s",
        width=12,
    ),
    Panel("Retrainings by outcome", {"{{result}}": of_one("nightshift_retraining_outcomes")}, width=12),
)
TRAINING = (
    Panel("Loss", {"{{run}}": of_one("nightshift_running_loss")}, width=12),
    Panel(
        "Progress",
        {"{{task}} {{run}}": of_one("nightshift_running_step") + " / " + of_one("nightshift_running_steps")},
        unit="percentunit",
        width=12,
    ),
    Panel("Tokens a second", {"{{task}} {{run}}": of_one("nightshift_running_tokens_per_second")}, width=12),
    Panel("Memory", {"{{task}} {{run}}": of_one("nightshift_running_memory_bytes")}, unit="bytes", width=12),
    Panel("GPU use", {"{{pod}} {{gpu}}": dcgm("DCGM_FI_DEV_GPU_UTIL")}, unit="percent"),
    Panel("GPU memory", {"{{pod}} {{gpu}}": dcgm("DCGM_FI_DEV_FB_USED")}, unit="decmbytes"),
    Panel("GPU power", {"{{pod}} {{gpu}}": dcgm("DCGM_FI_DEV_POWER_USAGE")}, unit="watt"),
)
COST = (
    Panel("Cost of 7 days", {"{{application}}": 'sum by (application) (nightshift_cost{days="7"})'}, "table", width=12),
    Panel(
        "Cost of 30 days", {"{{application}}": 'sum by (application) (nightshift_cost{days="30"})'}, "table", width=12
    ),
    Panel(
        "Used of the budget",
        {"{{application}} {{setting}}": "nightshift_budget_used_ratio"},
        unit="percentunit",
        width=12,
    ),
    Panel("Budgets without room for a retraining", {"": "nightshift_budget_holds_retraining == 1"}, "table", width=12),
    Panel("GPU-hours of 7 days", {"{{application}}": 'nightshift_gpu_hours{days="7"}'}),
    Panel("Next retraining, GPU-hours", {"{{application}}": "nightshift_next_retraining_gpu_hours > 0"}),
    Panel("Next retraining, cost", {"{{application}}": "nightshift_next_retraining_cost > 0"}),
    Panel("Tokens of 7 days", {"{{application}} {{direction}}": 'nightshift_tokens{days="7"}'}, width=12),
    Panel("Storage", {"{{application}}": "nightshift_storage_bytes"}, unit="bytes", width=12),
)
DASHBOARDS = {
    "fleet": ("Nightshift: all applications", FLEET, "7d"),
    "application": ("Nightshift: one application", APPLICATION, "30d"),
    "training": ("Nightshift: running jobs", TRAINING, "6h"),
    "cost": ("Nightshift: cost", COST, "30d"),
}


def dashboards() -> dict[str, str]:
    """Return the JSON of every dashboard by its name."""
    return {name: _json(name, *made) for name, made in DASHBOARDS.items()}


def _json(name: str, title: str, panels: tuple[Panel, ...], back: str) -> str:
    built = (
        dashboard.Dashboard(title)
        .uid(f"nightshift-{name}")
        .tags(["nightshift"])
        .refresh("1m")
        .time(f"now-{back}", "now")
    )
    built.timezone("browser").with_variable(
        dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    )
    if any("$application" in query for panel in panels for query in panel.queries.values()):
        every = "label_values(nightshift_application_readable, application)"
        built.with_variable(
            dashboard.QueryVariable("application")
            .label("Application")
            .datasource(SOURCE)
            .query(every)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        )
    for panel in panels:
        built.with_panel(_panel(panel))
    return JSONEncoder(sort_keys=True, indent=1).encode(built.build()) + "\n"


def _panel(panel: Panel) -> Any:
    built = KINDS[panel.kind]().title(panel.title).datasource(SOURCE).span(panel.width).height(panel.height)
    if panel.unit:
        built.unit(panel.unit)
    for legend, expr in panel.queries.items():
        query = prometheus.Dataquery().expr(expr).legend_format(legend or "__auto")
        built.with_target(query.instant().format(PromQueryFormat.TABLE) if panel.kind == "table" else query)
    if panel.kind == "table":
        hidden = {"Time": True, "__name__": True, "instance": True, "job": True}
        built.with_transformation(DataTransformerConfig(id_val="organize", options={"excludeByName": hidden}))
    return built
