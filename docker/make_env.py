"""Prints a `.env` file with fresh keys for compose.yaml: `python3 docker/make_env.py > .env`."""

import base64
import os
import secrets

print("# Keys of this deployment. Keep them secret; with a new FERNET_KEY stored connections cannot be read any more.")
print(f"POSTGRES_PASSWORD={secrets.token_hex(24)}")
print(f"FERNET_KEY={base64.urlsafe_b64encode(os.urandom(32)).decode()}")
print(f"API_SECRET_KEY={secrets.token_urlsafe(64)}")
print(f"JWT_SECRET={secrets.token_urlsafe(64)}")
print("# AIRFLOW_PORT=8080")
print("# MLFLOW_PORT=5000")
print("# NIGHTSHIFT_STORAGE=s3://bucket/nightshift")
