"""What a look says of budgets, requests that wait, and retrainings that were given up."""

from datetime import UTC, datetime, timedelta

import pytest
from told import application

from nightshift.alerts.watch_people import lost, spent, waits
from nightshift.ledger.records import Outcome, Request

NOW = datetime(2026, 11, 22, 5, tzinfo=UTC)
APP = application()


def ago(hours):
    return NOW - timedelta(hours=hours)


@pytest.mark.parametrize(
    ("gpu_hours", "cost", "expected"),
    [
        (31, 0, []),
        (33, 0, [("warning", "82% of the week's GPU hours is used")]),
        (40, 99, [("critical", "100% of the week's GPU hours is used"), ("warning", "99% of the week's cost is used")]),
    ],
)
def test_most_of_the_budget_is_a_warning_and_all_of_it_critical(gpu_hours, cost, expected):
    app = APP.model_copy(
        update={"budget": APP.budget.model_copy(update={"gpu_hours_a_week": 40.0, "cost_a_week": 100.0})}
    )
    alerts = spent(app, gpu_hours=gpu_hours, cost=cost, now=NOW)
    assert [(alert.severity.value, alert.title) for alert in alerts] == expected


def test_without_a_budget_nothing_is_said():
    assert spent(APP, gpu_hours=1e6, cost=1e6, now=NOW) == []


def request(hours):
    return Request(
        id="20261121T050000-abc", version="8", model_digest="d", evaluation_digest="e", champion_digest=None,
        verdict="WARN", subject="May version 8 replace version 7?", dag_id="bank_release", run_id="r",
        task_id="approve", asked=ago(hours), until=ago(hours) + timedelta(hours=24),
    )  # fmt: skip


def test_people_are_reminded_every_few_hours_until_the_time_is_up():
    assert waits(APP, request(3.9), links={}, now=NOW) is None
    told = {waits(APP, request(hours), links={}, now=NOW).cause[-1] for hours in (4.1, 7.9)}
    assert told == {"1"}
    assert waits(APP, request(8.1), links={}, now=NOW).cause.endswith("reminder 2")
    assert waits(APP, request(24), links={}, now=NOW) is None


def test_a_lost_retraining_is_told_with_the_reason():
    outcome = Outcome(number=7, result="lost", explanation="no run claimed it", ended=ago(1))
    assert lost(APP, outcome, now=NOW).facts == ["no run claimed it"]
