"""How housekeeping gets into Airflow's REST API where nobody has a password: by the token in its connection."""

import json
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from airflow.sdk.exceptions import AirflowException

from nightshift.orchestration.airflow_rest import airflow_rest

SECRET = "s" * 64


@pytest.fixture
def connection(answers, monkeypatch):
    """A function that sets the connection's other fields."""

    def connect(**fields):
        host, port = answers.server_address
        text = json.dumps({"conn_type": "http", "host": host, "port": port, **fields})
        monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_AIRFLOW", text)

    answers.json["/api/v2/importErrors"] = {"import_errors": []}
    return connect


def token(days):
    return jwt.encode({"sub": "7", "exp": datetime.now(UTC) + timedelta(days=days)}, SECRET)


@pytest.mark.parametrize("word", [token(days=90), "opaque-token-of-a-provider"], ids=["jwt", "opaque"])
def test_a_connection_without_a_login_sends_its_token_and_asks_for_no_other(word, answers, connection, caplog):
    connection(password=word)
    with airflow_rest() as rest:
        assert rest.get("importErrors") == {"import_errors": []}

    assert (answers.asked, answers.tokens) == (["/api/v2/importErrors"], [f"Bearer {word}"])
    assert not caplog.records


def test_a_token_may_stand_in_a_uri_as_docs_kubernetes_puts_it_into_the_secret(answers, connection, monkeypatch):
    host, port = answers.server_address
    word = token(days=90)
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_AIRFLOW", f"http://:{word}@{host}:{port}")
    with airflow_rest() as rest:
        rest.get("importErrors")

    assert answers.tokens == [f"Bearer {word}"]


def test_a_token_that_soon_expires_is_named_in_the_log_of_every_look(connection, caplog):
    word = token(days=10)
    connection(password=word)
    with airflow_rest():
        pass

    assert "the token of the Airflow connection 'nightshift_airflow' expires at" in caplog.text
    assert word not in caplog.text


def test_an_expired_token_and_none_at_all_say_what_to_do(answers, connection):
    connection(password=token(days=-1))
    with pytest.raises(AirflowException, match=r"expired at .* UTC: put a new one there"), airflow_rest():
        pass

    connection()
    with pytest.raises(AirflowException, match="has neither a login nor a token"), airflow_rest():
        pass
    assert answers.asked == []
