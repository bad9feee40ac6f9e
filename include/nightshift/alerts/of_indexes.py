"""Alerts about documents that are too old to answer from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nightshift.alerts.alert import Alert, ResultAlerts
from nightshift.settings.people import Kind, Severity


def of_index(_spec: Any, result: Mapping[str, Any], alerts: ResultAlerts) -> Iterator[Alert]:
    """Yield an alert if the champion's documents are too old, or the recovery."""
    why, name = result.get("stale_index"), alerts.application.name
    if why:
        yield alerts.alert(
            Kind.NO_DATA,
            Severity.WARNING,
            f"{name} answers from documents that are too old",
            subject="index",
            facts=[why],
            todo=f"check the runs of {name}_index, which reads documents, and of {name}_reconfigure and {name}_release, "
            "which release a newer index",
            condition="stale index",
        )
    elif why is not None:
        yield alerts.good(Kind.NO_DATA, "stale index", f"{name} answers from recent documents again", subject="index")
