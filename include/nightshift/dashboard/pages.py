"""Renders pages: Jinja with automatic escaping, and filters for numbers, times and addresses."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from airflow.configuration import conf
from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from nightshift.access.permissions import DAGS
from nightshift.dashboard import charts
from nightshift.dashboard.models import Score
from nightshift.monitoring.wording import number
from nightshift.settings.metrics import label_of
from nightshift.shown import shown, shown_lines

TEXT_CHARACTERS = 600
NOTHING = "\N{EN DASH}"
# Kinds of report -> folders of an address below the folder of that name.
REPORTS = {"drift": 2, "bias": 2, "evaluations": 1, "shadows": 1, "replay_reports": 2, "data_docs": 2}
MINUTE, HOUR, DAY = 60, 3600, 86_400


def render(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """Return a page. Texts of users, models and jobs are shortened, put on one line, and escaped."""
    page = _environment().get_template(template).render(
        root=str(request.scope.get("root_path", "")), airflow=airflow_root(), now=datetime.now(UTC), **context
    )  # fmt: skip
    return HTMLResponse(page, status_code=status)


def airflow_root() -> str:
    """Return the path below which Airflow serves its own pages, "" for the root."""
    return urlsplit(str(conf.get("api", "base_url", fallback=""))).path.rstrip("/")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("nightshift.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "text": lambda value, most=TEXT_CHARACTERS: shown(str(value), most),
        "lines": lambda value: shown_lines(str(value)),
        "moment": moment,
        "age": age,
        "number": lambda value: number(float(value)),
        "count": lambda value: f"{value:,}",
        "percent": lambda value: f"{value * 100:.1f} %",
        "scored": scored,
        "seconds": duration,
        "metric": label_of,
        "web": web_address,
        "report": lambda address, application, kind: report_path(application, kind, address),
        "points": charts.points,
        "part": lambda value: quote(str(value), safe=""),
    }
    environment.globals |= {"charts": charts, "kinds": DAGS, "version": _version()}
    return environment


def _version() -> str:
    """A digest of the static files, in their addresses so that browsers may cache them."""
    files = sorted((Path(__file__).parent / "static").iterdir())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def moment(value: datetime | None) -> str:
    """Return a time to the minute, UTC."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if value else NOTHING


def age(value: datetime | None, now: datetime) -> str:
    """Return the time since `value`: `12 min`, `5 h`, `3 days`."""
    if value is None:
        return NOTHING
    seconds = max(0.0, (now - value).total_seconds())
    if seconds < HOUR:
        return f"{seconds // MINUTE:.0f} min"
    return f"{seconds // HOUR:.0f} h" if seconds < 2 * DAY else f"{seconds // DAY:.0f} days"


def duration(seconds: float | None) -> str:
    """Return a duration: `42 s`, `3.5 min`, `2.1 h`."""
    if seconds is None:
        return NOTHING
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE:.1f} min" if seconds < 2 * HOUR else f"{seconds / HOUR:.1f} h"


def scored(score: Score | None, metric: str = "") -> str:
    """Return a score with its interval: `87.7 % [84.0, 91.3]`; losses as they are."""
    if score is None:
        return NOTHING
    if metric in {"loss", "perplexity"}:
        return f"{number(score.value)} [{number(score.low)}, {number(score.high)}]"
    return f"{score.value * 100:.1f} % [{score.low * 100:.1f}, {score.high * 100:.1f}]"


def web_address(url: str) -> str:
    """Return the address if it is one of the web, else ""."""
    return url if url.startswith(("http://", "https://")) else ""


def report_path(application: str, kind: str, address: Sequence[str]) -> str:
    """Return the dashboard's path of a job's report at an address."""
    name = "index.html" if kind == "data_docs" else "report.html"
    return "/".join(("apps", application, "reports", kind, *(quote(part, safe="") for part in address), name))
