"""When an application's intervals end: a cron expression of five fields, or one of Airflow's presets."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from nightshift.settings.intake import SAMPLE_DAY

PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
}
FIELDS = ("minute", "hour", "day", "month", "weekday")
CHANCE = re.compile(r"(?:^|[\s,])[rh](?:[\s,/(]|$)", re.IGNORECASE)  # croniter's fields that a die fills in


def _comes_around(expression: str) -> str:
    """Check a schedule before Airflow's timetables do, and refuse what they would run at other times than it says."""
    if expression in PRESETS:
        return expression
    if expression.startswith("@"):
        raise ValueError(f"is no preset of Airflow; there are {', '.join(PRESETS)}")
    if reason := _why_not(expression):
        raise ValueError(
            f"is no cron expression ({' '.join(FIELDS)}) and no preset: {reason}; write one such as `0 2 * * *`, each "
            f"day at 02:00, or a preset such as @daily"
        )
    return expression


def _why_not(expression: str) -> str | None:
    """Why an expression is none that stands for one series of moments; None where it does."""
    from croniter import croniter

    # croniter takes a sixth field as seconds: sixty runs in place of one.
    if (count := len(expression.split())) != len(FIELDS):
        return f"it has {count} field{'s' if count != 1 else ''}, not {len(FIELDS)}"
    if CHANCE.search(expression):
        return "a field that is filled in at random gives other intervals at every look"
    try:
        croniter(expression, SAMPLE_DAY).get_next()
    except ValueError as error:
        return str(error)
    return None


Schedule = Annotated[str, AfterValidator(_comes_around)]
