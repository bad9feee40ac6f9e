"""The assets between the DAGs: an event only wakes a DAG, what is due is read from manifests."""

from __future__ import annotations

from airflow.sdk import Asset

from nightshift.settings.application import Application


def examples_asset(app: Application) -> Asset:
    """Accepted examples of an application; an event's extra holds the partition's URI and digest."""
    return Asset(name=f"{app.name}_examples", uri=f"x-nightshift://{app.name}/examples", group="nightshift")


def candidate_asset(app: Application) -> Asset:
    """Registered candidates of an application; an event's extra holds the model version and its verdict."""
    return Asset(name=f"{app.name}_candidate", uri=f"x-nightshift://{app.name}/candidate", group="nightshift")


def interactions_asset(app: Application) -> Asset:
    """Answered and scored intervals of an application; an event's extra holds the partition's URI and digest."""
    return Asset(name=f"{app.name}_interactions", uri=f"x-nightshift://{app.name}/interactions", group="nightshift")


def retraining_asset(app: Application) -> Asset:
    """Retrainings that the ledger ordered; an event's extra holds the order, its reason and its reports."""
    return Asset(name=f"{app.name}_retraining", uri=f"x-nightshift://{app.name}/retraining", group="nightshift")


def indexes_asset(app: Application) -> Asset:
    """Published indexes of an application's documents; an event's extra holds the partition's URI and digest."""
    return Asset(name=f"{app.name}_indexes", uri=f"x-nightshift://{app.name}/indexes", group="nightshift")
