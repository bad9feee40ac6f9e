"""The buttons on a task's page."""

from types import SimpleNamespace

import pytest
from airflow.serialization.serialized_objects import DagSerialization

from nightshift.alerts.global_alerts import ALL_APPLICATIONS
from nightshift.orchestration.links import LINKS, links_of, run_links

RUN = ("banking_assistant", "banking_assistant_finetune", "manual__2026-11-05T01:02:03+00:00")


def test_a_run_id_is_quoted_so_that_its_page_is_found():
    page = links_of(*RUN, {})["Nightshift"]
    assert page.endswith(
        "/nightshift/apps/banking_assistant/runs/banking_assistant_finetune/manual__2026-11-05T01%3A02%3A03%2B00%3A00"
    )


def test_a_run_of_housekeeping_has_no_page_of_an_application():
    assert set(run_links(*RUN)) == {"Run", "Nightshift"}
    assert set(run_links(ALL_APPLICATIONS, "nightshift_audit", "r")) == {"Run"}


def test_a_result_without_addresses_has_only_the_buttons_of_its_run():
    assert set(links_of(*RUN, {"verdict": "PASS", "run_url": ""})) == {"Nightshift", "Pods"}


def test_of_many_nights_the_newest_with_a_report_is_shown():
    nights = [
        {"night": "2026-11-05", "report": "file:///banking_assistant/drift/2026-11-05/a", "run_url": "http://mlflow/5"},
        {"night": "2026-11-06", "report": "file:///banking_assistant/drift/2026-11-06/b", "run_url": "http://mlflow/6"},
        {"night": "2026-11-07", "report": None, "run_url": None},
    ]
    links = links_of(*RUN, {"nights": nights})
    assert links["MLflow run"] == "http://mlflow/6"
    assert links["Report"].endswith("/apps/banking_assistant/reports/drift/2026-11-06/b/report.html")


@pytest.mark.parametrize(
    ("result", "page"),
    [
        ({"evaluation": "s3://team/banking_assistant/evaluations/0a"}, "evaluations/0a/report.html"),
        (
            {"data_docs": "s3://team/banking_assistant/data_docs/2026-11-02/0a/index.html"},
            "data_docs/2026-11-02/0a/index.html",
        ),
        ({"report": "s3://team/elsewhere/drift/0a"}, None),
    ],
)
def test_a_report_is_shown_by_the_page_of_its_application(result, page):
    link = links_of(*RUN, result).get("Report", "")
    assert link.endswith(f"/nightshift/apps/banking_assistant/reports/{page}") if page else link == ""


@pytest.mark.parametrize("title", ["MLflow run", "Report", "Model version"])
def test_what_a_result_does_not_say_has_no_button(title):
    link = next(link for link in LINKS if link.name == title)
    assert not link.get_link(SimpleNamespace(links={}), ti_key=None)


def test_airflow_keeps_the_buttons_when_a_dag_goes_through_its_database():
    from airflow.sdk import DAG

    from nightshift.orchestration.local_job import LocalJob

    with DAG("banking_assistant_finetune") as dag:
        LocalJob(task_id="train", application="banking_assistant", job="train", arguments={})
    kept = DagSerialization.from_dict(DagSerialization.to_dict(dag)).get_task("train").extra_links
    assert set(kept) == {link.name for link in LINKS}
