"""The local stack: MLflow and Airflow on this machine, for trying, developing and small deployments."""
