"""What an application used: each account and each night counted once, and what keeps a retraining from being ordered."""

from datetime import UTC, datetime, timedelta

import pytest
from kept_pods import NOW, keep, pod
from ledger_intervals import APP, CHAMPION, crowned, everywhere, outcome, publish_interval
from upath import UPath

from nightshift.ledger import orders
from nightshift.ledger.budget import Forecast, bounds, forecast
from nightshift.ledger.spending import (
    Summary,
    bounds_now,
    count_storage,
    keep_summary,
    kept_summary,
    spent_by_days,
    summary_now,
)
from nightshift.ledger.store import Ledger
from nightshift.settings.interval import Interval
from nightshift.settings.people import Budget
from nightshift.storage.endpoint_accounts import endpoint_accounts, keep_endpoint_account
from nightshift.storage.files import scratch
from nightshift.storage.partition import partition_of, publish


def answer_a_night(storage, days_ago, folder="interactions", **facts):
    """Interactions as the job `score` publishes them."""
    start = (NOW - timedelta(days=days_ago)).replace(hour=0, minute=0, second=0, microsecond=0)
    interval = Interval(start=start, end=start + timedelta(days=1))
    partition = partition_of(storage, "bank", *folder.split("/"), interval.key)
    publish(
        partition, scratch(partition), kind="interactions", application="bank", interval=interval, inputs=facts,
        facts=facts,
    )  # fmt: skip


def test_pods_nights_and_storage_of_a_week_and_a_month_are_summed_up(storage):
    keep(storage, pod("today", hours=2), pod("last-week", hours=3, ended=NOW - timedelta(days=9), gpus=8))
    answer_a_night(storage, 1, tokens=700, prompt_tokens=9000, cost=1.5)
    summary = summary_now(Ledger(storage, "bank"), NOW + timedelta(minutes=1))
    summary.storage = (NOW, 200 * 10**9, 12)
    summary = Summary.model_validate(summary.model_dump())
    week, month = spent_by_days(summary, Budget(storage_price=0.02), NOW + timedelta(minutes=1)).values()
    assert (week.gpu_hours, week.pod_cost, week.endpoint_cost) == (8, 20, 1.5)
    assert (week.prompt_tokens, week.response_tokens) == (9000, 700)
    assert (month.gpu_hours, month.pod_cost) == (32, 50)
    assert week.storage_cost == pytest.approx(200 * 0.02 * 7 * 24 / 730)
    assert week.cost == 21.5 + week.storage_cost


def test_both_versions_of_a_split_take_part_in_the_cost_and_each_interval_once(storage):
    answer_a_night(storage, 1, tokens=700, prompt_tokens=9000, cost=1.5)
    answer_a_night(storage, 1, "arms/0001", tokens=100, prompt_tokens=1000, cost=0.5)
    answer_a_night(storage, 50, "arms/0001", cost=8.0)
    ledger, now = Ledger(storage, "bank"), NOW + timedelta(minutes=1)
    for _ in range(2):
        spent = keep_summary(ledger, now).spent(7, now)
        assert (spent.endpoint_cost, spent.prompt_tokens, spent.response_tokens) == (2.0, 10_000, 800)


def test_what_was_asked_of_an_endpoint_between_the_nights_is_of_the_cost(storage):
    night = NOW.date().isoformat()
    asked = {"answers": ("answers", 2.0), "probes": ("probes", 0.25), "shadows": ("shadow", 1.0)}
    for folder, (kind, cost) in {**asked, f"replay_reports/{night}": ("replay", 0.5)}.items():
        partition = partition_of(storage, "bank", *folder.split("/"), "0123")
        publish(partition, scratch(partition), kind=kind, application="bank", inputs={}, facts={"cost": cost})
    partition_of(storage, "bank", "answers", "unfinished").mkdir(parents=True)
    ledger = Ledger(storage, "bank")
    kept = keep_summary(ledger, NOW)
    assert kept.asked.keys() == {"answers/0123", "probes/0123", "shadows/0123", f"replay_reports/{night}/0123"}
    now = kept.asked["answers/0123"].created + timedelta(hours=1)
    assert kept.spent(7, now).endpoint_cost == 3.75
    (ledger.home / "answers" / "0123" / "manifest.json").write_text("{}")  # read before: nobody reads it again
    later = keep_summary(ledger, now + timedelta(days=40))
    assert later.spent(7, now + timedelta(days=40)).endpoint_cost == 0
    assert later.asked.items() <= kept.asked.items()


def test_what_a_judge_and_an_embedder_took_is_counted_once_and_forgotten_after_a_month(storage):
    ledger = Ledger(storage, "bank")
    now = datetime.now(UTC)
    keep_endpoint_account(ledger.home, "judge", 0.5)
    keep_endpoint_account(ledger.home, "embedder", 0.25)
    (account, _) = endpoint_accounts(ledger.home, now.date())
    (account.parent / "torn.json").write_text("{")
    for _ in range(2):
        assert (
            keep_summary(ledger, now + timedelta(minutes=1)).spent(7, now + timedelta(minutes=1)).endpoint_cost == 0.75
        )
    later = now + timedelta(days=40)
    assert keep_summary(ledger, later).judged == {}


def test_a_summary_reads_each_account_once_and_forgets_what_is_older_than_a_month(storage):
    address = keep(storage, pod("a"), pod("b"))
    ledger = Ledger(storage, "bank")
    first = keep_summary(ledger, NOW)
    address.write_text("{}")  # read before: nobody reads it again
    keep(storage, pod("c"))
    assert [name[-20:] for name in first.pods] == [name[-20:] for name in sorted(first.pods)]
    assert len(keep_summary(ledger, NOW).pods) == len(kept_summary(ledger.home).pods) == 3
    assert keep_summary(ledger, NOW + timedelta(days=40)).pods == {}


def test_an_account_that_comes_days_late_is_found_within_the_hour(storage):
    ledger, moment = Ledger(storage, "bank"), NOW.replace(minute=30)
    keep_summary(ledger, moment)
    keep(storage, pod("late", ended=NOW - timedelta(days=5)))
    assert keep_summary(ledger, moment).pods == {}
    assert len(keep_summary(ledger, NOW.replace(minute=1)).pods) == 1


@everywhere
def test_all_files_of_an_application_are_counted_once_a_day_and_no_look_forgets_it(storage):
    home = UPath(storage) / "bank"
    for path, size in (("models/m/a/model.safetensors", 5000), ("arrivals/1.json", 20), ("ledger/orders/1.json", 7)):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_bytes(b"x" * size)
    (UPath(storage) / "other").mkdir(exist_ok=True)
    (UPath(storage) / "other" / "file").write_bytes(b"x" * 99)
    counted = count_storage(home, NOW)
    assert (counted.bytes, counted.files) == (5027, 3)
    assert count_storage(home, NOW + timedelta(hours=1)) is None
    keep(storage, pod("a"))
    assert keep_summary(Ledger(storage, "bank"), NOW).storage == kept_summary(home).storage == counted
    assert count_storage(home, NOW + timedelta(hours=21)).files == 5  # the account and the summary came


def test_a_summary_that_cannot_be_read_is_made_anew(storage):
    keep(storage, pod("old", ended=NOW - timedelta(days=20)))
    ledger = Ledger(storage, "bank")
    keep_summary(ledger, NOW)
    (UPath(storage) / "bank" / "usage" / "summary.json").write_text("{")
    assert len(keep_summary(ledger, NOW).pods) == 1


def test_the_next_retraining_is_expected_to_take_what_the_last_registered_one_took():
    known = [
        outcome(1, now=NOW - timedelta(days=9), gpu_hours=3.0, cost=9.0),
        outcome(2, now=NOW - timedelta(days=5), gpu_hours=8.0, cost=24.0),
        outcome(3, "failed", now=NOW - timedelta(days=1), gpu_hours=0.5, cost=1.0),
        outcome(4),  # by a process of a worker: nothing was accounted for
    ]
    assert forecast(known) == Forecast(gpu_hours=8, cost=24)
    assert forecast([]) == Forecast()


@pytest.mark.parametrize(
    ("expected", "against"),
    [
        (1.0, ""),
        (2.0, ""),
        (2.5, "8.00 of 10 are used, the next retraining is expected to use 2.50 (budget.gpu_hours_a_week)"),
    ],
)
def test_a_budget_forbids_what_no_longer_fits(storage, expected, against):
    keep(storage, pod("a", hours=2))
    ledger, now = Ledger(storage, "bank"), NOW + timedelta(minutes=1)
    budget = Budget(gpu_hours_a_week=10, cost_a_month=1000)
    week, month = bounds(
        budget, spent_by_days(summary_now(ledger, now), budget, now), Forecast(gpu_hours=expected, cost=1)
    )
    assert week.against == against
    assert (month.setting, month.used, month.against) == ("cost_a_month", 20, "")


def test_without_a_budget_nothing_is_read():
    assert bounds_now(None, Budget(), NOW) == []


def test_a_spent_budget_holds_the_retraining_that_the_nights_ask_for_and_the_ledger_says_why(storage):
    app = APP.model_copy(update={"name": "bank", "budget": Budget(cost_a_week=15)})
    crowned(storage, "bank")
    keep(storage, pod("train-1", hours=2))  # 20
    nights = [publish_interval(storage, day, "FAIL", application="bank") for day in (22, 23)]
    ledger, now = Ledger(storage, "bank"), NOW + timedelta(minutes=1)
    decision = [orders.evaluate(app, ledger, night, now) for night in nights][-1]
    assert (decision.action, decision.code) == ("none", "budget")
    assert decision.reason.startswith(
        "20.00 of 15 are used (budget.cost_a_week). Otherwise: 2 of the newest 2 intervals"
    )
    assert decision.numbers["cost_a_week_used"] == 20
    assert ledger.decision(decision.id) == decision
    assert ledger.orders() == {}
    raised = app.model_copy(update={"budget": Budget(cost_a_week=50)})
    more = publish_interval(storage, 24, "FAIL", application="bank")
    assert orders.evaluate(raised, ledger, more, now).code == "tripped"
    assert CHAMPION in decision.model_digest
