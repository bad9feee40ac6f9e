"""The task that tells who waits for candidates that one is registered."""

from __future__ import annotations

from typing import Any

from airflow.sdk import task


@task
def announce(version: dict[str, Any], *, ti: Any, outlet_events: Any) -> None:
    """Tell that a candidate is registered.

    :param version: what the job `register` returned.
    """
    extra = {key: version[key] for key in ("name", "version", "verdict", "model_url")}
    outlet_events[ti.task.outlets[0]].extra = extra
