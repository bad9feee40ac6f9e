"""The dashboard as Airflow serves it."""

import pytest
from served import airflow, applications

__all__ = ["airflow", "applications"]


@pytest.fixture
def visit(airflow, applications):
    """A function that opens a page as a user (None: nobody) and returns the answer; redirects are not followed."""
    from fastapi.testclient import TestClient

    app, token = airflow
    client = TestClient(app, raise_server_exceptions=False, follow_redirects=False)

    def open_page(path, user="viewer", method="GET", **headers):
        if user:
            headers["Authorization"] = f"Bearer {token(user)}"
        return client.request(method, f"/nightshift{path}", headers={"Accept": "text/html", **headers})

    return open_page
