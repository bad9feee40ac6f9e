"""What a DAG run says to people, told by its callback or by the look that found it."""

from datetime import UTC, datetime, timedelta

from nightshift.alerts.conditions import as_sent, with_alert
from nightshift.alerts.of_runs import Run, failed, late, no_longer_failed, works_again

NOW = datetime(2026, 11, 22, 5, tzinfo=UTC)
RUN = Run(
    dag_id="bank_ingest",
    run_id="scheduled__2026-11-21",
    state="running",
    start_date=NOW - timedelta(hours=2),
    data_interval_start=datetime(2026, 11, 21, tzinfo=UTC),
    data_interval_end=datetime(2026, 11, 22, tzinfo=UTC),
)


def failure(run, tasks=()):
    return failed("bank", run, tasks=list(tasks), links={}, now=NOW)


def test_a_failed_run_is_the_same_alert_whoever_tells_it():
    assert failure(RUN, ["train"]).id == failure(RUN).id
    assert failure(RUN, ["train"]).title == "bank_ingest: train failed"
    assert failure(RUN).night == "2026-11-21"


def test_a_run_that_was_cleared_and_fails_again_is_news():
    again = RUN.model_copy(update={"start_date": NOW})
    assert failure(again).id != failure(RUN).id


def test_two_runs_that_began_in_the_same_second_and_failed_are_both_news():
    # A backfill, or two triggers one after the other: one round of the scheduler starts them all.
    other = failure(RUN.model_copy(update={"run_id": "scheduled__2026-11-20"}))
    assert as_sent(with_alert(None, failure(RUN)), other).severity == "critical"


def test_a_run_without_an_interval_of_its_own_belongs_to_no_night():
    at = RUN.data_interval_start
    assert RUN.model_copy(update={"data_interval_end": at}).night is None
    assert RUN.model_copy(update={"data_interval_start": None}).night is None


def test_a_late_run_says_since_when():
    alert = late("bank", RUN, 2, links={}, now=NOW)
    assert (alert.title, alert.since) == ("bank_ingest is not done after 2 hours", RUN.start_date)


def test_a_success_ends_what_the_failure_and_the_delay_opened():
    bad = {failure(RUN).condition, late("bank", RUN, 2, links={}, now=NOW).condition}
    assert {alert.condition for alert in works_again("bank", RUN, links={}, now=NOW)} == bad


def test_a_late_run_that_was_cleared_may_be_late_again_and_two_late_runs_are_two():
    def lateness(**fields):
        return late("bank", RUN.model_copy(update=fields), 2, links={}, now=NOW)

    assert lateness(queued_at=NOW - timedelta(hours=9)).id != lateness(queued_at=NOW - timedelta(hours=3)).id
    assert lateness(run_id="other").condition != lateness().condition


def recovered(run, *successes):
    held = with_alert(None, failure(RUN))
    return [
        alert.title for alert in no_longer_failed(held, run, successes, links={}, now=NOW) if alert.kind == "job_failed"
    ]


def run(state, hours_ago, **fields):
    return RUN.model_copy(update={"state": state, "end_date": NOW - timedelta(hours=hours_ago), **fields})


def test_a_failure_is_over_when_its_run_or_a_later_one_succeeded_or_it_was_deleted():
    failed_run = run("failed", 3)
    assert recovered(run("success", 1)) == ["bank_ingest works again"]
    assert recovered(failed_run, run("success", 1, run_id="next")) == ["bank_ingest works again"]
    assert recovered(None) == ["the run that failed was deleted: bank_ingest: it failed"]


def test_a_failure_holds_while_only_earlier_runs_succeeded_or_its_run_was_cleared():
    assert recovered(run("failed", 3), run("success", 4, run_id="before")) == []
    assert recovered(run("running", 3)) == []
