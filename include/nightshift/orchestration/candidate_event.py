"""The task that emits the candidate asset when a version is registered."""

from __future__ import annotations

from typing import Any

from airflow.sdk import task


@task
def announce(version: dict[str, Any], *, ti: Any, outlet_events: Any) -> None:
    """Emit the candidate asset.

    :param version: the result of the job `register`.
    """
    extra = {key: version[key] for key in ("name", "version", "verdict", "model_url")}
    outlet_events[ti.task.outlets[0]].extra = extra
