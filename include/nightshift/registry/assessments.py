"""People's assessments of the traces of an MLflow experiment, as lines for the job `feedback`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Assessment, AssessmentSourceType, TraceInfo
from mlflow.tracing.constant import TraceMetadataKey

from nightshift.errors import BadInput
from nightshift.registry.tracking import reachable
from nightshift.settings.feedback import ASSESSMENTS
from nightshift.settings.interval import Interval

TRACES_AT_ONCE = 500  # what MLflow's server allows


def write_assessments(
    experiment: str, names: Sequence[str], traced_since: datetime, interval: Interval, path: Path
) -> None:
    """Write a JSON line for each person and trace that was assessed in the interval, streaming.

    A line has `trace_id`, `client_request_id`, `session`, `user`, `tags.<name>`, `by` and `at` (of the last assessment),
    `rationale`, and as `assessments.<name>` the newest value of each. Assessments by LLM judges and code are left out.

    :param names: the assessments to read; traces without any of them are not fetched.
    :param traced_since: traces that began before it are left out.
    :raises BadInput: there is no such experiment.
    :raises BadEnvironment: MLflow cannot be reached.
    """
    seen = set[str]()
    began = [
        f"trace.timestamp_ms >= {int(traced_since.timestamp() * 1e3)}",
        f"trace.timestamp_ms < {int(interval.end.timestamp() * 1e3)}",
    ]
    with reachable(), path.open("w", encoding="utf-8") as file:
        client = MlflowClient()
        if (found := client.get_experiment_by_name(experiment)) is None:
            raise BadInput(f"MLflow has no experiment {experiment!r}, which a source of feedback names")
        for has in [f"{kind}.`{name}` IS NOT NULL" for name in names for kind in ("feedback", "expectation")]:
            for trace in _traces(client, found.experiment_id, " AND ".join([*began, has])):
                lines = [] if trace.trace_id in seen else _lines(trace, set(names), interval)
                for line in lines:
                    seen.add(trace.trace_id)
                    file.write(json.dumps(line, sort_keys=True) + "\n")


def _traces(client: MlflowClient, experiment: str, wanted: str) -> Iterator[TraceInfo]:
    token = None
    while True:
        page = client.search_traces(
            locations=[experiment],
            filter_string=wanted,
            max_results=TRACES_AT_ONCE,
            order_by=["timestamp_ms ASC"],
            page_token=token,
            include_spans=False,
        )
        yield from (trace.info for trace in page)
        token = page.token
        if not token:
            return


def _lines(trace: TraceInfo, names: set[str], interval: Interval) -> Iterator[dict[str, Any]]:
    """A line for each person who assessed a trace in the interval, in the order of names."""
    said: dict[str, list[Assessment]] = {}
    for one in sorted(trace.assessments, key=lambda one: (one.create_time_ms or 0, one.assessment_id or "")):
        by_a_person = one.source.source_type == AssessmentSourceType.HUMAN and one.valid is not False
        if by_a_person and one.name in names and interval.start <= _moment(one) < interval.end:
            said.setdefault(one.source.source_id or "", []).append(one)
    for person, assessments in sorted(said.items()):
        yield {
            "trace_id": trace.trace_id,
            "client_request_id": trace.client_request_id,
            "session": trace.trace_metadata.get(TraceMetadataKey.TRACE_SESSION),
            "user": trace.trace_metadata.get(TraceMetadataKey.TRACE_USER),
            **{f"tags.{name}": value for name, value in trace.tags.items()},
            "by": person,
            "at": _moment(assessments[-1]).isoformat(),
            "rationale": "\n".join(one.rationale for one in assessments if one.rationale),
            **{f"{ASSESSMENTS}{one.name}": (one.feedback or one.expectation).value for one in assessments},
        }


def _moment(assessment: Assessment) -> datetime:
    return datetime.fromtimestamp((assessment.create_time_ms or 0) / 1e3, UTC)
