"""Where the time of a run of the sample went: jobs that computed, processes that started, and waiting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from upath import UPath

from nightshift.jobs.contract import ResultFile
from nightshift.stack.airflow_api import AirflowApi


@dataclass(frozen=True)
class Span:
    """Something that ran, by name."""

    name: str
    begin: datetime
    end: datetime


@dataclass(frozen=True)
class Times:
    """What a stretch of time (s) was spent on; the three add up to `total`. Jobs side by side count once in `computing`."""

    total: float
    computing: float  # at least one job was at work
    starting: float  # otherwise: a task ran, whose job was only beginning or had ended, or the stack came up
    waiting: float  # otherwise: nothing ran
    jobs: dict[str, float]  # seconds of all runs of each job


def times(begin: datetime, end: datetime, jobs: Iterable[Span], others: Iterable[Span]) -> Times:
    """Divide the time from `begin` to `end`.

    :param jobs: jobs at work.
    :param others: the tasks around them, and whatever else was only getting ready.
    """
    jobs = [_within(span, begin, end) for span in jobs if span.end > begin and span.begin < end]
    others = [_within(span, begin, end) for span in others if span.end > begin and span.begin < end]
    by_job: dict[str, float] = defaultdict(float)
    for job in jobs:
        by_job[job.name] += (job.end - job.begin).total_seconds()
    total, computing, busy = (end - begin).total_seconds(), _covered(jobs), _covered([*jobs, *others])
    return Times(total=total, computing=computing, starting=busy - computing, waiting=total - busy, jobs=dict(by_job))


def spans_since(
    since: datetime, api: AirflowApi, dags: Iterable[str], storage: str, application: str
) -> tuple[list[Span], list[Span]]:
    """Return the jobs of an application that began since then, by their result files, and the tasks of its DAGs.

    :raises BadEnvironment: Airflow does not answer.
    """
    jobs, tasks = [], []
    for row in [row for dag in dags for row in api.tasks_since(dag, since)]:
        if row["start_date"] and row["end_date"]:
            begin, end = (datetime.fromisoformat(row[key]) for key in ("start_date", "end_date"))
            tasks.append(Span(row["task_id"], begin, end))
    for path in UPath(storage).joinpath(application, "results").glob("*/*/*/try-*/result.json"):
        file = ResultFile.model_validate_json(path.read_bytes())
        if file.started >= since:
            jobs.append(Span(file.job, file.started, file.ended))
    return jobs, tasks


def times_summary(times: Times) -> str:
    """Return what took how long, as text for a person."""
    longest = sorted(((job, sec) for job, sec in times.jobs.items() if sec >= 1), key=lambda item: -item[1])
    return "\n".join(
        [
            f"  computing  {_clock(times.computing):>7}   {' · '.join(f'{job} {_clock(sec)}' for job, sec in longest)}",
            f"  starting   {_clock(times.starting):>7}   the stack, tasks, processes",
            f"  waiting    {_clock(times.waiting):>7}   for the scheduler",
            f"  in all     {_clock(times.total):>7}",
        ]
    )


def _within(span: Span, begin: datetime, end: datetime) -> Span:
    return Span(span.name, max(span.begin, begin), min(span.end, end))


def _covered(spans: list[Span]) -> float:
    """The seconds in which at least one of the spans lies."""
    covered, until = timedelta(), None
    for span in sorted(spans, key=lambda span: span.begin):
        begin = span.begin if until is None else max(span.begin, until)
        if span.end > begin:
            covered += span.end - begin
            until = span.end
    return covered.total_seconds()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"
