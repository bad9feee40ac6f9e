"""The endpoint as Airflow serves it."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from served import airflow, applications

from nightshift.metrics.families import FAMILIES

__all__ = ["airflow", "applications"]

TOKEN = "a-token-of-the-tests"


@pytest.fixture
def client(airflow, applications, monkeypatch):
    """A client of the API server, which is given the token of the metrics; each test gathers anew."""
    from fastapi.testclient import TestClient

    monkeypatch.setenv("NIGHTSHIFT_METRICS_TOKEN", TOKEN)
    monkeypatch.setattr("nightshift.metrics.gathering.FRESH_SECONDS", 0.0)
    return TestClient(airflow[0], raise_server_exceptions=False, follow_redirects=False)


@pytest.fixture
def scrape(client):
    """A function that scrapes, and returns value by name and labels."""

    def values():
        answer = client.get("/nightshift/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200, answer.text
        return {
            (sample.name, *(sample.labels[label] for label in FAMILIES[sample.name].labels)): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    return values
