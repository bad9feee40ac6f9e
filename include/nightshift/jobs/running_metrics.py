"""What a running job says of itself by OpenTelemetry, where the environment names a collector: progress, speed, loss, memory.

Prometheus cannot scrape a job that ends when it has its result, and what is pushed to a gateway stays there for ever.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePosixPath

from nightshift.jobs.nodes import nodes
from nightshift.settings.application import Application

# The OTLP exporter reads these, and OTEL_EXPORTER_OTLP_HEADERS and the like, by itself.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
INTERVAL_MS = 15_000
LAST_MS = 5_000  # that a job waits in the end for a collector that does not answer
# Name -> unit, of what is told where it is known; a name of Prometheus has `_` for `.`, and `bytes` for `By`.
TOLD = {"step": "", "steps": "", "loss": "", "tokens_per_second": "", "memory": "By"}


class RunningMetrics:
    """Gauges of one job on one node, sent every 15 s (`OTEL_METRIC_EXPORT_INTERVAL`) by a thread of the SDK."""

    def __init__(self, job: str, application: str, run: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource

        every = None if os.environ.get(INTERVAL) else INTERVAL_MS
        self._labels = {"application": application, "task": job, "run": run, "node": str(nodes().index)}
        instance = f"{application}/{run}/{job}/{self._labels['node']}"
        self._provider = MeterProvider(
            [PeriodicExportingMetricReader(OTLPMetricExporter(), export_interval_millis=every)],
            resource=Resource({"service.name": "nightshift", "service.instance.id": instance}),
        )
        meter = self._provider.get_meter("nightshift")
        self._gauges = {name: meter.create_gauge(f"nightshift.running.{name}", unit) for name, unit in TOLD.items()}

    def tell(self, numbers: Mapping[str, float | str | None]) -> None:
        """Keep the newest numbers of those that are told; the SDK sends them."""
        for name, gauge in self._gauges.items():
            value = numbers.get(name)
            if isinstance(value, int | float):
                gauge.set(value, self._labels)

    def end(self) -> None:
        """Send what was not sent yet."""
        self._provider.shutdown(timeout_millis=LAST_MS)


def running_metrics(job: str, application: Application, result: str) -> RunningMetrics | None:
    """Return what takes the numbers of a job; None where no collector is named, and nothing was imported for it.

    :param result: where the job's result will lie: the folders above name the DAG run.
    """
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return None
    parts = PurePosixPath(result).parts
    after = parts[parts.index("results") + 1 :] if "results" in parts else ()
    return RunningMetrics(job, application.name, after[1] if len(after) > 1 else "by hand")
