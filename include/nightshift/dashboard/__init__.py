"""The pages that tell the state of every application, served inside Airflow's own API server. They change nothing."""
