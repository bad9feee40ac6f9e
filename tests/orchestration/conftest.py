"""An Airflow home of the tests' own, set before anything imports airflow."""

import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOME = tempfile.mkdtemp(prefix="nightshift-airflow-")

for key in [key for key in os.environ if key.startswith("AIRFLOW_")]:
    del os.environ[key]
os.environ.update(
    AIRFLOW_HOME=HOME,
    AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "dags"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{HOME}/airflow.db",
    AIRFLOW_CONN_NIGHTSHIFT_MLFLOW="http://someone:pass-word@127.0.0.1:5999",
)
