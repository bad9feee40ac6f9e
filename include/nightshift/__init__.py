"""Nightshift: batch GenAI operations on Apache Airflow."""

__version__ = "0.1.0"
