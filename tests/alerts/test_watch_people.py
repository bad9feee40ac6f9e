"""What a look says of budgets, requests that wait, and retrainings that were given up."""

from datetime import UTC, datetime, timedelta

import pytest
from told import application

from nightshift.alerts.watch_people import lost, spent, waits
from nightshift.ledger.budget import Bound
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
        (
            40,
            99,
            [("critical", "100% of the week's GPU hours is used"), ("warning", "99% of the month's cost is used")],
        ),
    ],
)
def test_most_of_the_budget_is_a_warning_and_all_of_it_critical(gpu_hours, cost, expected):
    used = [
        Bound(setting="gpu_hours_a_week", used=gpu_hours, most=40, forecast=8),
        Bound(setting="cost_a_month", used=cost, most=100),
    ]
    alerts = spent(APP, used, now=NOW)
    assert [(alert.severity.value, alert.title) for alert in alerts] == expected


def test_an_alert_about_a_budget_says_whether_a_retraining_still_fits():
    (held,) = spent(APP, [Bound(setting="gpu_hours_a_week", used=33, most=40, forecast=8)], now=NOW)
    assert (
        held.facts[-1]
        == "The policy orders no retraining until the next one fits the budget again; the intervals go on."
    )
    (fits,) = spent(APP, [Bound(setting="gpu_hours_a_week", used=33, most=40, forecast=2)], now=NOW)
    assert fits.facts[-1] == "A retraining still fits: it is expected to take 2.00."


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
