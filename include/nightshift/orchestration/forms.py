"""The forms that start a DAG by hand: typed, described and bounded by the same models that check the application."""

from __future__ import annotations

from functools import cache
from typing import Any

from airflow.sdk import Param
from pydantic import BaseModel

from nightshift.settings.application import Application
from nightshift.settings.schedule import at_most_once_a_day

# The keywords of a model's JSON Schema that Airflow's Param takes.
KEYWORDS = ("type", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "description")


def params_of(values: BaseModel, section: str | None = None) -> dict[str, Param]:
    """Return one param for each field of a model, with the application's value as its default."""
    params = {}
    for name, schema in _schemas_of(type(values)).items():
        keywords: dict[str, Any] = {key: schema[key] for key in KEYWORDS if key in schema}
        params[name] = Param(getattr(values, name), title=name.replace("_", " "), section=section, **keywords)
    return params


@cache
def _schemas_of(model: type[BaseModel]) -> dict[str, Any]:
    return dict(model.model_json_schema()["properties"])


def optional_day(app: Application, description: str) -> Param:
    """Return a param for an optional day, described with the application's days."""
    return Param(None, type=["null", "string"], format="date", description=f"{description}. {_days_of(app)}")


def optional_interval(app: Application, doing: str) -> Param:
    """Return a param for a data interval of the application's schedule, described with the format to type.

    :param doing: such as "to ingest".
    """
    schedule, kind = app.schedule, "date"
    if schedule in {None, "@daily", "0 0 * * *"}:
        asked = f"Day {doing} ({app.timezone})"
    elif at_most_once_a_day(schedule):
        asked = (
            f"Day {doing} ({app.timezone}): selects the interval of `{schedule}` that begins on this day or contains it"
        )
    else:
        kind = "date-time"
        asked = (
            f"Time {doing}, such as {app.start}T05:30:00Z: selects the interval of `{schedule}` that contains it; for "
            "all intervals of a day start a backfill"
        )
    description = f"{asked}; empty: the run's own data interval. {_days_of(app)}"
    return Param(None, type=["null", "string"], format=kind, description=description)


def _days_of(app: Application) -> str:
    days = f"from {app.start} to {app.end}" if app.end else f"from {app.start} on"
    return f"{app.name} has data {days}."
