"""When an application's intervals end: a cron expression of five fields, or one of Airflow's presets.

The moments are those of Airflow's own timetables, so that an interval that a person asks for is the one that a scheduled
run has. Airflow is not imported for them: jobs run where there is none.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import pairwise
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
LONGEST_MOVE = timedelta(hours=3)  # of a clock that is put forward or back, and some more
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


def next_end(schedule: str, moment: datetime, zone: tzinfo) -> datetime:
    """Return the first end of an interval after a moment (UTC)."""
    return _end(schedule, moment, zone, forward=True)


def previous_end(schedule: str, moment: datetime, zone: tzinfo) -> datetime:
    """Return the last end of an interval before a moment (UTC)."""
    return _end(schedule, moment, zone, forward=False)


def at_most_once_a_day(schedule: str) -> bool:
    """Whether no day has two ends, so that a day is enough to name an interval."""
    from croniter import croniter

    minutes, hours = croniter(PRESETS.get(schedule, schedule)).expanded[:2]
    return len(minutes) == len(hours) == 1 and "*" not in (minutes[0], hours[0])


def interval_meant(typed: str, schedule: str | None, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return start and end (UTC) of the interval that a day (`2026-11-02`) or a moment (`2026-11-02T05:30`) stands for.

    A moment means the interval that holds it. A day means the interval that begins on it, else the one that holds it;
    without a schedule it means itself. A moment without an offset is of `zone`, and so are days.

    :raises ValueError: it is neither, no schedule tells the interval, or several intervals begin on that day.
    """
    try:
        day = date.fromisoformat(typed) if len(typed) == len("2026-11-02") else None
        moment = datetime.combine(day, time(), zone) if day else datetime.fromisoformat(typed)
    except ValueError:
        raise ValueError(f"{typed!r} is no day such as 2026-11-02 and no moment such as 2026-11-02T05:30:00Z") from None
    moment = (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    over = datetime.combine(day + timedelta(days=1), time(), zone).astimezone(UTC) if day else moment
    if schedule is None:
        if day is None:
            raise ValueError(f"{typed} is a moment, and without a `schedule` intervals are days: give a day")
        return moment, over
    start, end = interval_holding(schedule, moment, zone)
    begun = [begin for begin in (start, end, next_end(schedule, end, zone)) if day and moment <= begin < over]
    if len(begun) > 1:
        raise ValueError(
            f"several intervals of `{schedule}` begin on {typed}: give a moment of the one you mean, such as "
            f"{begun[0]:%Y-%m-%dT%H:%M:%SZ}, or start a backfill for all of them"
        )
    return (begun[0], next_end(schedule, begun[0], zone)) if begun else (start, end)


def interval_holding(schedule: str, moment: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return start and end (UTC) of the interval that holds a moment."""
    # From end to end as Airflow goes: where clocks are moved, the way back is another one.
    start = previous_end(schedule, moment - LONGEST_MOVE, zone)
    while (end := next_end(schedule, start, zone)) <= moment:
        start = end
    return start, end


def shown_twice(schedule: str, since: datetime, zone: tzinfo) -> tuple[tuple[datetime, datetime], ...]:
    """Return two intervals (UTC) that begin at one time of the clock, which is put back in the year after a moment, if any."""

    def offset(moment: datetime) -> timedelta:
        return moment.astimezone(zone).utcoffset() or timedelta(0)

    days = (since + timedelta(days=day) for day in range(367))
    day = next((before for before, after in pairwise(days) if offset(after) < offset(before)), None)
    if day is None:
        return ()
    moment = next(half for number in range(1, 49) if offset(half := day + number * timedelta(minutes=30)) < offset(day))
    second = interval_holding(schedule, moment, zone)
    first = interval_holding(schedule, second[0] - (offset(day) - offset(moment)), zone)
    on_the_clock = {start.astimezone(zone).replace(tzinfo=None, fold=0) for start, _ in (first, second)}
    return (first, second) if first != second and len(on_the_clock) == 1 else ()


def _end(schedule: str, moment: datetime, zone: tzinfo, *, forward: bool) -> datetime:
    from croniter import croniter

    wall = moment.astimezone(zone).replace(tzinfo=None, fold=0)
    cron = croniter(PRESETS.get(schedule, schedule), wall)
    found: datetime = cron.get_next(datetime) if forward else cron.get_prev(datetime)
    if cron.expanded[1] == ["*"]:  # in every hour, so also in one that the clock repeats
        return moment.astimezone(UTC) + (found - wall)
    # A time that the clock shows twice is the second one; one that it skips comes as much later.
    return max(found.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
