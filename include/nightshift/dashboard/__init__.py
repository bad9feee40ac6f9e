"""The dashboard: pages about the state of every application, served by Airflow's API server."""
