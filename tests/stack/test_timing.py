"""Where the time of a run went: computing, starting and waiting add up to all of it."""

from datetime import UTC, datetime, timedelta

from nightshift.stack.timing import Span, times, times_summary

START = datetime(2026, 11, 28, 12, tzinfo=UTC)


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def span(name: str, begin: float, end: float) -> Span:
    return Span(name, at(begin), at(end))


def test_each_second_is_computing_starting_or_waiting() -> None:
    spent = times(at(0), at(100), jobs=[span("train", 20, 60)], others=[span("train", 15, 62), span("stack", 0, 10)])
    assert (spent.computing, spent.starting, spent.waiting) == (40, 17, 43)
    assert spent.computing + spent.starting + spent.waiting == spent.total == 100


def test_jobs_side_by_side_count_once_and_each_under_its_name() -> None:
    jobs = [span("generate", 0, 30), span("generate", 10, 40), span("score", 35, 50)]
    spent = times(at(0), at(50), jobs, [])
    assert spent.computing == 50
    assert spent.jobs == {"generate": 60, "score": 15}


def test_what_began_before_or_went_on_after_counts_only_within() -> None:
    spent = times(at(10), at(20), [span("train", 0, 12), span("train", 18, 40), span("drift", 30, 35)], [])
    assert spent.jobs == {"train": 4}
    assert spent.waiting == 6


def test_a_run_in_which_nothing_ran_only_waited() -> None:
    spent = times(at(0), at(5), [], [])
    assert (spent.waiting, spent.jobs) == (5, {})


def test_the_summary_names_the_longest_job_first_with_units() -> None:
    text = times_summary(times(at(0), at(200), [span("drift", 0, 9), span("train", 10, 130)], []))
    computing, *_, whole = text.splitlines()
    assert computing.split()[1:] == ["2:09", "min", "train", "2:00", "min", "·", "drift", "9", "s"]
    assert whole.split()[-2:] == ["3:20", "min"]
