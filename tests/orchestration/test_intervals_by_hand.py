"""The form of a DAG that works by data intervals: what a person types means an interval of the application's schedule."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DataInterval, TimeRestriction
from pendulum import instance

from nightshift.errors import BadInput
from nightshift.orchestration.attempt import new_attempt
from nightshift.settings.project import PACKAGE

FILE = PACKAGE.parents[1] / "dags" / "ingest.py"
APPLICATION = """\
description: Answers questions about returns.
owner: returns
start: 2026-10-01
sources:
  - uri: /data/returns/{start:%Y-%m-%d}.jsonl
    columns: {prompt: question, answer: reply}
"""


@pytest.fixture
def dag_of(project, tmp_path, monkeypatch):
    """A function that returns the DAG `ingest` of an application with this schedule."""

    def dag(schedule):
        (project / "apps" / "returns_helper.yaml").write_text(f"schedule: {schedule}\n{APPLICATION}")
        monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", (tmp_path / "storage").as_uri())
        bag = DagBag(FILE)
        assert bag.import_errors == {}
        return bag.dags["returns_helper_ingest"]

    return dag


def interval_of_run(dag, *, day=None, start=None, end=None):
    """The interval that a run ingests, by what was typed into its form, or by its own data interval."""
    dag.params.update({"day": day})  # as the form does, with its checks
    rendering = {"params": {"day": day}, "data_interval_start": start, "data_interval_end": end}
    task = dag.get_task("ingest")
    arguments = task.render_template(dict(task.arguments), rendering)
    ti = SimpleNamespace(dag_id=dag.dag_id, run_id="r", task_id="ingest", map_index=-1, try_number=1)
    run = SimpleNamespace(conf={})
    return new_attempt("ingest", "returns_helper", arguments, {"ti": ti, "dag_run": run, "dag": dag}).spec.interval


def scheduled(dag, moment):
    """The key of the scheduled run whose interval holds a moment."""
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable
    restriction = TimeRestriction(instance(datetime(2026, 10, 1, tzinfo=UTC)), None, catchup=True)
    info = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    while info.data_interval.end <= moment:
        last = DataInterval(info.data_interval.start, info.data_interval.end)
        info = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
    assert info.data_interval.start <= moment
    return interval_of_run(dag, start=info.data_interval.start, end=info.data_interval.end).key


@pytest.mark.parametrize(
    ("schedule", "typed", "within"),
    [
        ("'@daily'", "2026-11-04", datetime(2026, 11, 4, 12, tzinfo=UTC)),
        ("0 2 * * *", "2026-11-04", datetime(2026, 11, 4, 12, tzinfo=UTC)),
        ("'@weekly'", "2026-11-04", datetime(2026, 11, 4, 12, tzinfo=UTC)),  # a Wednesday, within Sunday to Sunday
        ("'@weekly'", "2026-11-08", datetime(2026, 11, 8, 12, tzinfo=UTC)),
        ("0 2 * * 1-5", "2026-11-07", datetime(2026, 11, 7, 12, tzinfo=UTC)),  # a Saturday: of Friday to Monday
        ("'@monthly'", "2026-11-30", datetime(2026, 11, 30, 12, tzinfo=UTC)),
        ("'@quarterly'", "2026-11-04", datetime(2026, 11, 4, 12, tzinfo=UTC)),
        ("'@hourly'", "2026-11-04T05:20:00Z", datetime(2026, 11, 4, 5, 20, tzinfo=UTC)),
        ("'@hourly'", "2026-11-04T06:20:00+01:00", datetime(2026, 11, 4, 5, 20, tzinfo=UTC)),
        ("0 6,18 * * *", "2026-11-04T05:20:00Z", datetime(2026, 11, 4, 5, 20, tzinfo=UTC)),
    ],
)
def test_what_a_person_types_is_the_partition_that_the_schedule_makes(dag_of, schedule, typed, within):
    dag = dag_of(schedule)
    assert interval_of_run(dag, day=typed).key == scheduled(dag, within)


def test_a_day_of_a_daily_application_is_that_day_also_without_a_schedule(dag_of):
    for schedule in ("'@daily'", "0 0 * * *", "null"):
        assert interval_of_run(dag_of(schedule), day="2026-11-04").key == "2026-11-04"


@pytest.mark.parametrize("typed", ["2026-09-30", "2026-10-01", "2026-10-03"])
def test_a_day_before_the_first_interval_is_refused_with_what_there_is(dag_of, typed):
    with pytest.raises(BadInput, match=r"2026-\d\d-\d\d.* `@weekly` .*first begins 2026-10-04"):
        interval_of_run(dag_of("'@weekly'"), day=typed)


def test_a_run_without_an_interval_asks_for_one(dag_of):
    with pytest.raises(BadInput, match="fill in `day`"):
        interval_of_run(dag_of("null"))


def test_the_form_of_an_hourly_application_asks_for_a_moment_and_takes_no_day(dag_of):
    dag = dag_of("'@hourly'")
    assert "date-time" in str(dag.params.get_param("day").schema)
    with pytest.raises(ParamValidationError):
        interval_of_run(dag, day="2026-11-04")


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ("'@daily'", "Day to ingest (UTC); empty: "),
        ("null", "Day to ingest (UTC); empty: "),
        ("0 2 * * *", "the interval of `0 2 * * *` that begins on this day"),
        ("'@weekly'", "on this day or contains it"),
        ("'@hourly'", "Time to ingest, such as 2026-10-01T05:30:00Z"),
    ],
)
def test_the_form_says_what_to_type(dag_of, schedule, says):
    assert says in dag_of(schedule).params.get_param("day").description


def test_intervals_and_days_are_of_the_applications_time_zone(dag_of):
    dag = dag_of("'@daily'\ntimezone: Europe/Berlin")
    assert interval_of_run(dag, day="2026-11-04").key == scheduled(dag, datetime(2026, 11, 4, 12, tzinfo=UTC))
    assert interval_of_run(dag, day="2026-11-04").start == datetime(2026, 11, 3, 23, tzinfo=UTC)
    assert interval_of_run(dag, day="2026-10-01").start == datetime(2026, 9, 30, 22, tzinfo=UTC)
    assert "(Europe/Berlin)" in dag.params.get_param("day").description


@pytest.mark.parametrize(
    ("kind", "minute"), [("finetune", 30), ("nightly_drift", 0), ("release", 30), ("nightly_bias", 0)]
)
def test_dags_that_look_by_the_clock_do_so_in_the_applications_zone_and_minute(dag_of, kind, minute):
    dag_of("'@daily'\ntimezone: Europe/Berlin")
    timetable = DagBag(FILE.with_name(f"{kind}.py")).dags[f"returns_helper_{kind}"].schedule.timetable
    assert timetable.timezone == "Europe/Berlin"
    assert minute < int(timetable.expression.split()[0]) < minute + 30
