"""Nightshift in Airflow's menu, and as a tab on the pages of DAGs and runs.

Every component of Airflow imports this file, but only the API server uses the pages, so imports happen late.
Airflow shows the tabs on every DAG; for DAGs of no application the page says so.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.plugins_manager import AirflowPlugin

PREFIX = "/nightshift"


class NightshiftPlugin(AirflowPlugin):
    """The dashboard and the metrics, mounted into the API server."""

    name = "nightshift"

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:
        """The dashboard with the metrics endpoint, imported only by the API server."""
        from nightshift.metrics.app import app

        return [{"app": app, "url_prefix": PREFIX, "name": "Nightshift"}]

    @property
    def external_views(self) -> list[dict[str, Any]]:
        """The menu entry and tabs. Addresses include the path below which Airflow is served."""
        from airflow.configuration import conf

        root = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/") + PREFIX
        icons = {"icon": f"{root}/static/moon.svg", "icon_dark_mode": f"{root}/static/moon-dark.svg"}
        return [
            {"name": "Nightshift", "href": f"{root}/", "destination": "nav", "nav_top_level": True,
             "url_route": "nightshift", **icons},
            {"name": "Nightshift", "href": f"{root}/dags/{{DAG_ID}}", "destination": "dag",
             "url_route": "nightshift-application", **icons},
            {"name": "Nightshift", "href": f"{root}/dags/{{DAG_ID}}/runs/{{RUN_ID}}", "destination": "dag_run",
             "url_route": "nightshift-run", **icons},
        ]  # fmt: skip
