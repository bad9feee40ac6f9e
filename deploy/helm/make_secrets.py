"""Writes the Secrets of a new deployment as one manifest, with fresh keys: `make_secrets.py | kubectl create -f -`.

`create` refuses where they are there already: with another fernet-key Airflow cannot read its connections any more. Standard
library only; it runs on Python 3.9 and newer.
"""

import argparse
import base64
import json
import os
import secrets

USERS = ("viewer", "approver", "operator", "admin", "housekeeping")


def main() -> None:
    """Print the manifest; whoever sees it knows every password in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--airflow", default="airflow", help="Airflow's namespace")
    parser.add_argument("--jobs", default="nightshift", help="the chart's `namespace`")
    parser.add_argument("--release", default="airflow", help="the name of the release of Airflow's chart")
    options = parser.parse_args()

    passwords = {user: secrets.token_urlsafe(18) for user in USERS}
    housekeeping = {"login": "housekeeping", "password": passwords["housekeeping"]}
    rest = {"conn_type": "http", "host": f"{options.release}-api-server", "port": 8080, **housekeeping}
    airflow = {
        "fernet-key": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "api-secret-key": secrets.token_urlsafe(64),
        "jwt-secret": secrets.token_urlsafe(64),
        "audit-key": base64.b64encode(os.urandom(32)).decode(),
        "metrics-token": secrets.token_urlsafe(32),
        # Airflow's simple auth manager reads these two; with another one they open nothing.
        "passwords.json": json.dumps(passwords),
        "rest-connection": json.dumps(rest),
    }
    password = secrets.token_hex(24)
    uri = f"postgresql+psycopg2://mlflow:{password}@mlflow-database:5432/mlflow"
    items = [
        secret("nightshift-airflow", options.airflow, airflow),
        secret("nightshift-mlflow", options.jobs, {"password": password, "uri": uri}),
    ]
    print(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


def secret(name, namespace, data):
    """Return the manifest of one Secret."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
        "stringData": data,
    }


if __name__ == "__main__":
    main()
