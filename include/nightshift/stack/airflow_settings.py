"""Reads `airflow_settings.yaml` (the Astro CLI's format) and puts its connections, variables and pools into Airflow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nightshift.errors import BadInput


def _json_object(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value.strip() else value or {}


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else json.dumps(value)


class ConnectionSetting(BaseModel):
    """A connection, with the Astro CLI's keys."""

    model_config = ConfigDict(extra="forbid")

    conn_id: str
    conn_type: str
    conn_host: str | None = None
    conn_schema: str | None = None
    conn_login: str | None = None
    conn_password: str | None = None
    conn_port: int | None = None
    conn_uri: str | None = None
    conn_extra: Annotated[dict[str, Any], BeforeValidator(_json_object)] = {}


class PoolSetting(BaseModel):
    """A pool, with the Astro CLI's keys."""

    model_config = ConfigDict(extra="forbid")

    pool_name: str
    pool_slot: int = Field(ge=-1)
    pool_description: str = ""
    pool_include_deferred: bool = False


class VariableSetting(BaseModel):
    """A variable, with the Astro CLI's keys."""

    model_config = ConfigDict(extra="forbid")

    variable_name: str
    variable_value: Annotated[str, BeforeValidator(_text)]


class AirflowSettings(BaseModel):
    """What the file holds below `airflow:`."""

    model_config = ConfigDict(extra="forbid")

    connections: list[ConnectionSetting] = []
    pools: list[PoolSetting] = []
    variables: list[VariableSetting] = []


def read_airflow_settings(path: Path) -> AirflowSettings:
    """Return the settings in the file `path`. The empty entries of Astro's template (`conn_id:`) are passed over.

    :raises BadInput: the file is missing or not in this format.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        groups = content.get("airflow") or {}
        filled = {name: [item for item in items or [] if _is_filled(item)] for name, items in groups.items()}
        return AirflowSettings.model_validate(filled)
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError) as error:
        raise BadInput(f"{path}: not settings in the Astro CLI's format: {error}") from error
    except ValidationError as error:
        problems = [
            f"{path}: airflow.{'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in error.errors(include_input=False)
        ]
        raise BadInput("\n".join(problems)) from None


def load_into_airflow(settings: AirflowSettings, loaded: Mapping[str, str]) -> dict[str, str]:
    """Create what Airflow's database lacks, and write again what changed in the file since it was last loaded.

    What people changed in Airflow stays as it is until its entry in the file changes.

    :param loaded: what the last call returned: the digest of each entry, by its name.
    """
    from airflow.models import Connection, Pool, Variable
    from airflow.utils.session import create_session
    from sqlalchemy import delete, select

    now: dict[str, str] = {}
    with create_session() as session:

        def is_due(item: BaseModel, column: Any, name: str) -> bool:
            key, digest = f"{type(item).__name__} {name}", sha256(item.model_dump_json().encode()).hexdigest()
            now[key] = digest
            is_there = session.scalar(select(column).where(column == name)) is not None
            return not is_there or loaded.get(key, digest) != digest

        for item in settings.connections:
            if is_due(item, Connection.conn_id, item.conn_id):
                session.execute(delete(Connection).where(Connection.conn_id == item.conn_id))
                session.add(_connection(Connection, item))
        for pool in settings.pools:
            if is_due(pool, Pool.pool, pool.pool_name):
                Pool.create_or_update_pool(
                    pool.pool_name, pool.pool_slot, pool.pool_description, pool.pool_include_deferred, session=session
                )
        for variable in settings.variables:
            if is_due(variable, Variable.key, variable.variable_name):
                Variable.set(variable.variable_name, variable.variable_value, session=session)
    return now


def load_housekeeping(item: ConnectionSetting) -> None:
    """Create the connection of housekeeping, or give it the password that its user has now.

    One that people gave another login, or a token, stays as it is.
    """
    from airflow.models import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        connection = session.scalar(select(Connection).where(Connection.conn_id == item.conn_id))
        if connection is None:
            session.add(_connection(Connection, item))
        elif connection.login == item.conn_login and connection.password != item.conn_password:
            connection.set_password(item.conn_password)


def _connection(kind: Any, item: ConnectionSetting) -> Any:
    if item.conn_uri:
        return kind(conn_id=item.conn_id, uri=item.conn_uri)
    return kind(
        conn_id=item.conn_id,
        conn_type=item.conn_type,
        host=item.conn_host or None,
        schema=item.conn_schema or None,
        login=item.conn_login or None,
        password=item.conn_password or None,
        port=item.conn_port,
        extra=item.conn_extra or None,
    )


def _is_filled(item: Any) -> bool:
    """Whether an entry is more than a blank form: one whose name is there and empty."""
    names = {"conn_id", "pool_name", "variable_name"}
    return not isinstance(item, dict) or all(item[name] not in (None, "") for name in names & item.keys())
