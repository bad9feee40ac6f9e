"""The buttons on a task's page: its MLflow run, report and model version, and the run's page with its pods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import attrs
from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf


@attrs.define
class ResultLink(BaseOperatorLink):
    """A button to an address in the task's result; hidden if the result has none.

    The worker stores the address with the result when the task ends.

    :param title: the button's text, and the key of :func:`links_of`.
    """

    title: str

    @property
    def name(self) -> str:
        """Text of the button."""
        return self.title

    @property
    def xcom_key(self) -> str:
        """The XCom in which the worker stores the address."""
        return f"link_{self.title.lower().replace(' ', '_')}"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address; empty if there is none."""
        return str(operator.links.get(self.title, ""))


LINKS = tuple(ResultLink(title) for title in ("MLflow run", "Report", "Model version", "Nightshift"))
PODS = ResultLink("Pods")


def links_of(application: str, dag_id: str, run_id: str, result: Mapping[str, Any]) -> dict[str, str]:
    """Return the addresses in a job's result, by the title of their button.

    Of the intervals that a monitor judged in one run, the newest one with a report is shown.
    """
    reported = [interval for interval in result.get("nights", []) if interval.get("report")]
    newest: Mapping[str, Any] = reported[-1] if reported else {}
    report = result.get("report") or newest.get("report") or result.get("evaluation") or result.get("data_docs")
    found = {
        "MLflow run": result.get("run_url") or newest.get("run_url"),
        "Report": report_page(application, report),
        "Model version": result.get("model_url"),
        "Nightshift": run_page(application, dag_id, run_id),
        "Pods": f"{run_page(application, dag_id, run_id)}#pods",
    }
    return {title: address for title, address in found.items() if address}


def application_page(application: str) -> str:
    """Return the address of an application's page."""
    return f"{_airflow()}/nightshift/apps/{quote(application, safe='')}"


def rollback_page(application: str) -> str:
    """Return the address of the DAG that takes a release back."""
    return f"{_airflow()}/dags/{quote(application, safe='')}_rollback"


def run_links(application: str, dag_id: str, run_id: str) -> dict[str, str]:
    """Return the pages about a run: Airflow's and, for an application's run, the dashboard's."""
    from nightshift.alerts.global_alerts import ALL_APPLICATIONS

    links = {"Run": f"{_airflow()}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"}
    return links if application == ALL_APPLICATIONS else {**links, "Nightshift": run_page(application, dag_id, run_id)}


def run_page(application: str, dag_id: str, run_id: str) -> str:
    """Return the address of the dashboard's page about a DAG run of an application."""
    return f"{application_page(application)}/runs/{quote(dag_id, safe='')}/{quote(run_id, safe='')}"


def report_page(application: str, report: str | None) -> str:
    """Return the address of the page that shows a report; empty if there is none.

    :param report: URI of the partition that holds the report, or of the report itself.
    """
    _, found, place = (report or "").rpartition(f"/{application}/")
    if not found:
        return ""
    page = place if place.endswith(".html") else f"{place.rstrip('/')}/report.html"
    return f"{application_page(application)}/reports/{quote(page)}"


def _airflow() -> str:
    return str(conf.get("api", "base_url", fallback="")).rstrip("/")
