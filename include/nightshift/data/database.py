"""Queries through an Airflow connection, which is read from `AIRFLOW_CONN_<ID>` in the forms that Airflow defines."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from sqlalchemy import URL, CursorResult, create_engine, text
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from nightshift.data.json_rows import json_or_text
from nightshift.errors import BadEnvironment, BadInput
from nightshift.settings.interval import Interval

# SQLAlchemy dialect and the Python packages that speak it, the first one installed is taken.
DRIVERS = {
    "postgres": ("postgresql", ["psycopg2", "psycopg"]),
    "mysql": ("mysql", ["pymysql", "MySQLdb"]),
    "sqlite": ("sqlite", ["sqlite3"]),
}
ALIASES = {"postgresql": "postgres", "mariadb": "mysql"}
QUERY_BATCH = 1_000  # rows
DRIVER_NAMES = {"MySQLdb": "mysqldb", "sqlite3": "pysqlite"}


def database_url(connection: str, environment: Mapping[str, str] = os.environ) -> URL:
    """Return the SQLAlchemy URL of an Airflow connection, which is a variable of the environment.

    :raises BadEnvironment: the connection is not given to this job, or no driver for it is installed.
    :raises BadInput: the connection cannot be read, or is of a kind that is not a known database.
    """
    variable = f"AIRFLOW_CONN_{connection.upper()}"
    text = environment.get(variable)
    if not text:
        raise BadEnvironment(f"the connection {connection!r} is not known here: {variable} is not set for this job")
    fields = _from_json(text, variable) if text.lstrip().startswith("{") else _from_uri(text, variable)
    kind = str(fields.get("conn_type") or "").lower().replace("-", "_").partition("+")[0]
    kind = ALIASES.get(kind, kind)
    if kind not in DRIVERS:
        raise BadInput(f"connection {connection!r} is of type {kind!r}; a query can run on: {', '.join(DRIVERS)}")
    dialect, packages = DRIVERS[kind]
    driver = next((package for package in packages if importlib.util.find_spec(package)), None)
    if driver is None:
        raise BadEnvironment(f"connection {connection!r} needs one of the Python packages {', '.join(packages)}")
    if kind == "sqlite":
        return URL.create("sqlite", database=_sqlite_file(fields))
    return URL.create(
        f"{dialect}+{DRIVER_NAMES.get(driver, driver)}",
        username=fields.get("login") or None,
        password=fields.get("password") or None,
        host=fields.get("host") or None,
        port=int(fields["port"]) if fields.get("port") else None,
        database=fields.get("schema") or None,
        query=_options(fields.get("extra")),
    )


def write_query(connection: str, query: str, interval: Interval, label: str, path: Path) -> tuple[str, list[str]]:
    """Write the rows of a query as JSON lines to `path`, streaming; return their SHA-256 (hex) and the column names.

    :raises BadInput: the query is wrong.
    :raises BadEnvironment: the database does not answer.
    """
    with _answer(database_url(connection), query, interval, label) as result:
        return _write_rows(result, path)


def has_rows(url: URL, query: str, interval: Interval, label: str) -> bool:
    """Whether a query finds a row.

    :raises BadInput: the query is wrong.
    :raises BadEnvironment: the database does not answer.
    """
    with _answer(url, query, interval, label) as result:
        return result.first() is not None


@contextmanager
def _answer(url: URL, query: str, interval: Interval, label: str) -> Iterator[CursorResult[Any]]:
    """Yield the rows of a query, streaming."""
    if url.drivername == "sqlite" and not Path(url.database or "").is_file():
        raise BadEnvironment(f"{label}: there is no database file {url.database}")
    engine = create_engine(url, json_deserializer=json_or_text)
    try:
        with engine.connect() as database:
            # A database without time zones compares texts or local times: it gets UTC without an offset.
            zone = UTC if database.dialect.name == "postgresql" else None
            moments = {"start": interval.start.replace(tzinfo=zone), "end": interval.end.replace(tzinfo=zone)}
            statement = text(query)
            used = {name: moments[name] for name in statement.compile().params if name in moments}
            streaming = database.execution_options(stream_results=True, yield_per=QUERY_BATCH)
            with streaming.execute(statement, used) as result:
                yield result
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        # SQLite calls a wrong query an operational error too, and has no server that could be down.
        if isinstance(error, OperationalError | InterfaceError) and url.drivername != "sqlite":
            raise BadEnvironment(f"{label}: the database does not answer: {cause}") from error
        raise BadInput(f"{label}: {cause}") from error
    finally:
        engine.dispose()


def _write_rows(result: CursorResult[Any], path: Path) -> tuple[str, list[str]]:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        names = list(result.keys())
        for row in result:
            line = json.dumps(dict(zip(names, row, strict=True)), default=_as_json).encode() + b"\n"
            digest.update(line)
            file.write(line)
    return digest.hexdigest(), names


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value.replace(tzinfo=UTC) if value.tzinfo is None else value).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode("utf-8", "surrogateescape")
    return str(value)


def _from_json(text: str, variable: str) -> dict[str, Any]:
    # The content may hold a password: no error quotes it.
    try:
        fields = json.loads(text)
    except ValueError:
        raise BadInput(f"{variable} starts like JSON, but is not valid JSON") from None
    return dict(fields)


def _from_uri(text: str, variable: str) -> dict[str, Any]:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise BadInput(f"{variable} is neither JSON nor a URI `type://login:password@host:port/schema`") from None
    host = parts.netloc.rpartition("@")[2]
    if not host.startswith("["):
        host = host.rpartition(":")[0] if port is not None else host
    return {
        "conn_type": parts.scheme,
        "login": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        # urlsplit's hostname is in lower case; a file name of SQLite is not to be changed.
        "host": unquote(host.strip("[]")),
        "port": port,
        "schema": unquote(parts.path.removeprefix("/")),
        "extra": dict(parse_qsl(parts.query)),
    }


def _sqlite_file(fields: dict[str, Any]) -> str:
    """`sqlite:////tmp/a.db`, `sqlite://%2Ftmp%2Fa.db` and `{"host": "/tmp/a.db"}` all mean the same file."""
    host, schema = str(fields.get("host") or ""), str(fields.get("schema") or "")
    return host or schema


def _options(extra: Any) -> dict[str, str]:
    """The extras that belong into a URL (`sslmode`, `charset`): plain texts, none of Airflow's own."""
    if isinstance(extra, str):
        try:
            extra = json.loads(extra or "{}")
        except ValueError:
            return {}
    return {
        key: value for key, value in (extra or {}).items() if isinstance(value, str) and not key.startswith("__extra")
    }
