"""Alerts about splits, from the task `ramp`: a split ended, or waits for evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from nightshift.alerts.alert import Alert, ResultAlerts
from nightshift.settings.people import Kind, Severity


def of_ramp(_spec: Any, result: Mapping[str, Any], alerts: ResultAlerts) -> Iterator[Alert]:
    """Yield the alerts of a look at a split, and the recoveries of conditions that it ends."""
    version, action = result["version"], result["action"]
    condition, subject = "split waits", f"version {version}"
    if action == "hold" and result["waited"] >= result["intervals"]:
        todo = f"wait for more traffic, or stop it with {alerts.application.name}_rollback"
        yield alerts.alert(
            Kind.SPLIT, Severity.WARNING, f"version {version} waits for evidence in its split", subject=subject, occurrence="",
            facts=result["reasons"], todo=todo, condition=condition, cause=f"{version} {result['share']}",
        )  # fmt: skip
    if action in {"step", "pass", "stop"}:
        yield alerts.good(Kind.SPLIT, condition, f"version {version} no longer waits for evidence", subject=subject)
    if action in {"pass", "stop"}:
        for kind, state in product((Kind.DRIFT, Kind.BIAS), ("", " not judged")):
            over = f"the split of version {version}, for which {kind} was found, is over"
            yield alerts.good(kind, f"{kind} of the challenger{state}", over, subject=kind.value)
        title, severity, todo = {
            "pass": (
                f"version {version} passed its split", Severity.INFO,
                f"nothing: {alerts.application.name}_release makes it the champion",
            ),
            "stop": (
                f"version {version} was stopped in its split", Severity.WARNING,
                "read what both versions answered; the champion answers alone. To start another split, start "
                f"{alerts.application.name}_release with a reason",
            ),
        }[action]  # fmt: skip
        yield alerts.alert(
            Kind.SPLIT, severity, title, subject=subject, occurrence="", facts=result["reasons"], todo=todo,
            cause=f"{version} {action} {result['split']}",
        )  # fmt: skip
