"""Writes `.env` beside compose.yaml's project with fresh keys, readable by its owner only: `python3 docker/make_env.py`.

A file that is there already is left alone: with other keys the deployment could not read its own data any more.
"""

import base64
import os
import secrets
import sys
from pathlib import Path

path = Path(sys.argv[1] if len(sys.argv) > 1 else ".env")
text = f"""\
# Keys of this deployment. Keep them secret; with a new FERNET_KEY stored connections cannot be read any more.
POSTGRES_PASSWORD={secrets.token_hex(24)}
FERNET_KEY={base64.urlsafe_b64encode(os.urandom(32)).decode()}
API_SECRET_KEY={secrets.token_urlsafe(64)}
JWT_SECRET={secrets.token_urlsafe(64)}
AUDIT_KEY={base64.b64encode(os.urandom(32)).decode()}
METRICS_TOKEN={secrets.token_urlsafe(32)}
AIRFLOW_METRICS=True
# Prometheus and Grafana beside Airflow; without this line they are left out.
COMPOSE_PROFILES=monitoring
# AIRFLOW_PORT=8080
# MLFLOW_PORT=5000
# PROMETHEUS_PORT=9090
# GRAFANA_PORT=3000
# NIGHTSHIFT_STORAGE=s3://bucket/nightshift
# NIGHTSHIFT_PROJECT=/srv/returns
"""
try:
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text)
except FileExistsError:
    sys.exit(f"{path} is there already and stays as it is; move it away first if you want new keys")
print(f"wrote {path}")
