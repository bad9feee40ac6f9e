"""`airflow_settings.yaml` is read as the Astro CLI reads it, and a mistake in it is named."""

from pathlib import Path

import pytest

from nightshift.errors import BadInput
from nightshift.stack.airflow_settings import read_airflow_settings
from nightshift.stack.place import CHECKOUT

ASTRO_TEMPLATE = """
airflow:
  connections:
    - conn_id:
      conn_type:
      conn_host:
      conn_schema:
      conn_login:
      conn_password:
      conn_port:
      conn_extra:
        example_extra_field: example-value
  pools:
    - pool_name:
      pool_slot:
      pool_description:
  variables:
    - variable_name:
      variable_value:
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "airflow_settings.yaml"
    path.write_text(text)
    return path


def test_the_projects_own_settings_hold_what_the_dags_use() -> None:
    settings = read_airflow_settings(CHECKOUT / "airflow_settings.yaml")

    assert [item.conn_id for item in settings.connections] == ["nightshift_mlflow"]
    assert {pool.pool_name: (pool.pool_slot, pool.pool_include_deferred) for pool in settings.pools} == {
        "nightshift_light": (4, False),
        "nightshift_jobs": (2, True),
        "nightshift_training": (1, True),
    }
    assert [item.variable_name for item in settings.variables] == ["nightshift_storage"]


def test_the_blank_form_that_astro_makes_holds_nothing(tmp_path: Path) -> None:
    settings = read_airflow_settings(write(tmp_path, ASTRO_TEMPLATE))

    assert (settings.connections, settings.pools, settings.variables) == ([], [], [])


def test_extras_may_be_a_mapping_or_json_text_and_values_may_be_structures(tmp_path: Path) -> None:
    settings = read_airflow_settings(
        write(
            tmp_path,
            "airflow:\n  connections:\n"
            "    - {conn_id: a, conn_type: http, conn_extra: {timeout: 5}}\n"
            "    - {conn_id: b, conn_type: http, conn_extra: '{\"timeout\": 5}'}\n"
            "  variables:\n    - {variable_name: v, variable_value: {key: [1, 2]}}\n",
        )
    )

    assert [item.conn_extra for item in settings.connections] == [{"timeout": 5}, {"timeout": 5}]
    assert settings.variables[0].variable_value == '{"key": [1, 2]}'


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("airflow: [", "not settings"),
        ("airflow:\n  conections: []\n", "airflow.conections"),
        ("airflow:\n  pools:\n    - {pool_name: p, pool_slot: many}\n", "airflow.pools.0.pool_slot"),
        (
            "airflow:\n  connections:\n    - {conn_id: a, conn_type: http, conn_prot: 1}\n",
            "airflow.connections.0.conn_prot",
        ),
        ("airflow:\n  variables:\n    - just text\n", "airflow.variables.0"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(BadInput, match=named.replace(".", r"\.")):
        read_airflow_settings(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        read_airflow_settings(tmp_path / "airflow_settings.yaml")


def test_passwords_in_the_file_do_not_show_in_a_message(tmp_path: Path) -> None:
    text = "airflow:\n  connections:\n    - {conn_id: a, conn_type: http, conn_password: [hunter2]}\n"

    with pytest.raises(BadInput) as refusal:
        read_airflow_settings(write(tmp_path, text))
    assert "hunter2" not in str(refusal.value)
