"""The dashboard as Airflow serves it."""

from datetime import timedelta

import pytest
from served import airflow, applications
from stored_application import LAST, days

__all__ = ["airflow", "applications"]


@pytest.fixture
def visit(airflow, applications):
    """A function that opens a page as a user (None: nobody) and returns the answer; redirects are not followed."""
    from fastapi.testclient import TestClient

    app, token = airflow
    client = TestClient(app, raise_server_exceptions=False, follow_redirects=False)

    def open_page(path, user="viewer", method="GET", content=None, **headers):
        if user:
            headers["Authorization"] = f"Bearer {token(user)}"
        return client.request(method, f"/nightshift{path}", content=content, headers={"Accept": "text/html", **headers})

    return open_page


@pytest.fixture
def helper(applications):
    """An application with three quiet nights, two that failed, and a retraining that is under way."""
    app = applications("helper")
    app.champion(score=0.87)
    for place, day in enumerate(days(5)):
        failed = place >= 3
        app.interactions(day, exact_match=0.4 if failed else 0.9)
        app.drift(
            day, "FAIL" if failed else "PASS", excess=0.6 if failed else 0.04,
            reason="Exact match: mean 0.9 → 0.4." if failed else "None of 6 metrics moved.", new=["where is my card?"],
        )  # fmt: skip
        app.bias(day)
    app.decision(LAST - timedelta(days=1))
    return app
