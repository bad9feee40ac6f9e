"""Brings Airflow's database up to date and loads `airflow_settings.yaml`: `python -m nightshift.stack.prepare`."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from importlib.metadata import version
from urllib.parse import urlsplit

from nightshift.errors import JobError
from nightshift.stack.airflow_settings import (
    ConnectionSetting,
    load_housekeeping,
    load_into_airflow,
    read_airflow_settings,
)
from nightshift.stack.credentials import HOUSEKEEPING, passwords
from nightshift.stack.place import Place, this_place


def prepared_for(place: Place) -> str:
    """What the database was prepared for; the same text means that there is nothing to do."""
    settings = hashlib.sha256(place.settings.read_bytes()).hexdigest() if place.settings.exists() else ""
    return f"{version('apache-airflow')} {settings}"


def is_prepared(place: Place) -> bool:
    """Whether the database fits this Airflow and these settings."""
    stamp = place.airflow_home / "prepared"
    database = place.airflow_home / "airflow.db"
    return database.exists() and stamp.exists() and stamp.read_text() == prepared_for(place)


def main() -> int:
    """Run with the environment of Airflow's processes."""
    place = this_place()
    try:
        settings = read_airflow_settings(place.settings)
    except JobError as error:
        print(f"ERROR {error}", file=sys.stderr)
        return int(error.exit_code)

    from airflow.utils.db import initdb

    place.airflow_home.mkdir(parents=True, exist_ok=True)
    words = passwords(place)
    initdb()
    loaded = place.airflow_home / "loaded_settings.json"
    before = json.loads(loaded.read_text()) if loaded.exists() else {}
    loaded.write_text(json.dumps(load_into_airflow(settings, before), indent=1))
    if "AIRFLOW_CONN_NIGHTSHIFT_AIRFLOW" not in os.environ:
        load_housekeeping(_housekeeping(words[HOUSEKEEPING]))
    (place.airflow_home / "prepared").write_text(prepared_for(place))
    return 0


def _housekeeping(password: str) -> ConnectionSetting:
    """The connection by which tasks ask the REST API; they reach it where they reach the API server anyway."""
    from airflow.configuration import conf

    server = urlsplit(conf.get_mandatory_value("core", "execution_api_server_url"))
    return ConnectionSetting(
        conn_id="nightshift_airflow",
        conn_type="http",
        conn_schema=server.scheme,
        conn_host=server.hostname,
        conn_port=server.port,
        conn_login=HOUSEKEEPING,
        conn_password=password,
    )


if __name__ == "__main__":
    sys.exit(main())
