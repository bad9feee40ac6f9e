"""The retraining policy: k of n nights, and every bound that may forbid what the nights ask for."""

from datetime import UTC, datetime, timedelta

import pytest

from nightshift.ledger.policy import History, decide
from nightshift.ledger.records import Claim, Decision, MonitoredInterval, Order, Outcome, Snooze
from nightshift.settings.policies import Retraining
from nightshift.verdict import Verdict

NOW = datetime(2026, 11, 24, 6, tzinfo=UTC)
CHAMPION, OLD = "c" * 64, "0" * 64
POLICY = Retraining()


def night(day, verdict, *, monitor="drift", model=CHAMPION, created=None, failing=("exact_match",)):
    failed = verdict == "FAIL"
    return MonitoredInterval(
        monitor=monitor,
        interval=f"2026-11-{day:02d}",
        verdict=verdict,
        model_digest=model,
        failing=list(failing) if failed else [],
        reasons=["exact match fell from 0.87 to 0.61 (300 rows)"] if failed else [],
        report=f"memory://reports/{monitor}/{day}",
        report_digest=f"{day:064d}",
        created=created or datetime(2026, 11, day, 5, tzinfo=UTC),
    )


def nights(*verdicts, **options):
    """One night a verdict, the last on the 23rd of November."""
    first = 24 - len(verdicts)
    return [night(first + number, verdict, **options) for number, verdict in enumerate(verdicts)]


def decided(*given, policy=POLICY, **known):
    known = {"now": NOW, "champion": CHAMPION, "new_examples": 500, "nights": list(given), **known}
    return decide(History(**known), policy)


def order(number=1, created=NOW):
    decision = Decision(id=f"d{number}", action="retrain", code="tripped", reason="it drifted", decided=created)
    return {number: Order(number=number, decision=decision, created=created)}


def ended(number=1, *, days_ago=1.0, result="registered", hours=1.0):
    at = NOW - timedelta(days=days_ago)
    return {
        "orders": order(number, at),
        "claims": {number: Claim(number=number, dag_id="f", run_id="r", claimed=at)},
        "outcomes": {number: Outcome(number=number, result=result, explanation="…", hours=hours, ended=at)},
    }


def test_two_of_the_three_newest_nights_failing_lead_to_a_retraining_that_says_why():
    decision = decided(*nights("FAIL", "PASS", "FAIL"))
    assert (decision.action, decision.code) == ("retrain", "tripped")
    assert decision.reason == (
        "2 of the newest 3 intervals with a verdict failed, 2 of 3 lead to a retraining: 2026-11-23 in exact_match; "
        "2026-11-21 in exact_match (exact match fell from 0.87 to 0.61 (300 rows)). 500 new training examples"
    )
    assert decision.reports == ["memory://reports/drift/23", "memory://reports/drift/21"]
    assert decision.nights == ["2026-11-23", "2026-11-22", "2026-11-21"]
    assert decision.numbers["nights_failed"] == 2


def test_a_retraining_says_what_kind_of_drift_led_to_it():
    failed = [one.model_copy(update={"kinds": ["concept drift"]}) for one in nights("FAIL", "FAIL")]
    assert "2026-11-23 by concept drift in exact_match; 2026-11-22 by" in decided(*failed).reason


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (["PASS", "WARN", "PASS"], "quiet"),
        (["PASS"], "quiet"),
        (["PASS", "PASS", "FAIL"], "too_few_nights"),
        (["FAIL"], "too_few_nights"),
        (["FAIL", "PASS", "PASS", "FAIL"], "too_few_nights"),
        ([], "too_few_nights"),
        (["FAIL", "FAIL"], "tripped"),
        (["FAIL", "FAIL", "PASS"], "tripped"),
    ],
)
def test_only_enough_failing_nights_among_the_newest_trip(verdicts, code):
    decision = decided(*nights(*verdicts))
    assert decision.code == code
    assert decision.action == ("retrain" if code == "tripped" else "none")


@pytest.mark.parametrize("silent", ["INSUFFICIENT_DATA", "ERROR"])
def test_a_night_without_a_verdict_is_neither_quiet_nor_failed(silent):
    assert decided(*nights("FAIL", silent, "FAIL")).code == "tripped"
    assert decided(*nights("FAIL", silent)).code == "too_few_nights"
    assert decided(*nights("PASS", "PASS", silent)).code == "quiet"


def test_a_row_of_nights_without_a_verdict_is_no_data_and_never_quiet():
    decision = decided(*nights("PASS", "PASS", "INSUFFICIENT_DATA", "ERROR"))
    assert decision.code == "no_data"
    assert "2026-11-23 ERROR, 2026-11-22 INSUFFICIENT_DATA" in decision.reason
    assert decided(*nights("INSUFFICIENT_DATA")).code == "no_data"
    assert decided(*nights("FAIL", "FAIL", "ERROR", "ERROR")).code == "no_data"


def test_nights_judged_against_an_earlier_champion_do_not_count():
    decision = decided(*nights("FAIL", "FAIL", model=OLD))
    assert decision.code == "too_few_nights"
    assert "2 intervals were judged against other models" in decision.reason
    assert decided(*nights("FAIL", "FAIL", "FAIL", model=OLD), night(23, "FAIL")).code == "too_few_nights"


def test_a_model_that_became_champion_again_starts_with_a_clean_slate():
    released = datetime(2026, 11, 23, tzinfo=UTC)
    decision = decided(*nights("FAIL", "FAIL", "FAIL"), released=released)
    assert decision.code == "too_few_nights"
    # Days that were caught up since the release count, however old they are.
    later = released + timedelta(hours=1)
    assert (
        decided(night(6, "FAIL", created=later), night(7, "FAIL", created=later), released=released).code == "tripped"
    )


def test_one_failing_monitor_fails_the_night_but_only_those_in_the_policy_are_heard():
    both = [
        *nights("PASS", "PASS"),
        *nights("FAIL", "FAIL", monitor="bias", failing=["toxicity"]),
    ]
    assert decided(*both).code == "quiet"
    heard = decided(*both, policy=Retraining(on=["drift", "bias"]))
    assert heard.code == "tripped"
    assert "2026-11-23 in toxicity" in heard.reason
    assert decided(*nights("ERROR", "ERROR"), *nights("PASS", "PASS", monitor="bias"),
                   policy=Retraining(on=["drift", "bias"])).code == "quiet"  # fmt: skip


def test_while_a_retraining_is_open_there_is_no_other():
    waiting = decided(*nights("FAIL", "FAIL"), orders=order())
    assert waiting.code == "open"
    assert "retraining 1 of 2026-11-24 06:00 UTC is waiting for finetune" in waiting.reason
    claims = {1: Claim(number=1, dag_id="app_finetune", run_id="scheduled__7", claimed=NOW)}
    assert "being trained by scheduled__7" in decided(*nights("FAIL", "FAIL"), orders=order(), claims=claims).reason


def test_a_snooze_holds_until_its_end_and_says_who_and_why():
    def snooze(hours):
        return Snooze(
            id="s", until=NOW + timedelta(hours=hours), reason="migration", by="ana", created=NOW - timedelta(days=1)
        )

    decision = decided(*nights("FAIL", "FAIL"), snooze=snooze(2))
    assert decision.code == "snoozed"
    assert "ana snoozed it until 2026-11-24 08:00 UTC: migration" in decision.reason
    assert decided(*nights("FAIL", "FAIL"), snooze=snooze(0)).code == "tripped"


def test_after_a_registered_model_comes_the_cooldown():
    assert decided(*nights("FAIL", "FAIL"), **ended(days_ago=2.9)).code == "cooldown"
    assert decided(*nights("FAIL", "FAIL"), **ended(days_ago=3.0)).code == "tripped"


@pytest.mark.parametrize("result", ["failed", "lost"])
def test_a_retraining_that_gave_no_model_has_no_cooldown_but_counts_for_the_week(result):
    once = ended(days_ago=1, result=result)
    assert decided(*nights("FAIL", "FAIL"), **once).code == "tripped"
    decision = decided(*nights("FAIL", "FAIL"), policy=Retraining(max_a_week=1), **once)
    assert decision.code == "weekly_runs"
    assert "1 retrainings began in the last seven days, the limit is 1" in decision.reason


def test_an_order_that_nobody_trained_for_costs_nothing():
    lost = ended(days_ago=1, result="lost", hours=0)
    lost["claims"] = {1: Claim(number=1, claimed=NOW - timedelta(days=1))}
    assert decided(*nights("FAIL", "FAIL"), policy=Retraining(max_a_week=1), **lost).code == "tripped"


@pytest.mark.parametrize(
    ("hours", "budget", "code"),
    [(6, 11, "weekly_hours"), (6, 12, "tripped"), (6, 6, "weekly_hours"), (0, 0, "weekly_hours")],
)
def test_what_the_last_training_took_must_still_fit_the_week(hours, budget, code):
    policy = Retraining(max_hours_a_week=budget, cooldown_days=0)
    assert decided(*nights("FAIL", "FAIL"), policy=policy, **ended(days_ago=4, hours=hours)).code == code


@pytest.mark.parametrize(
    ("days", "code"), [(4, "weekly_hours"), (9.3, "weekly_hours"), (9.4, "tripped"), (59, "tripped")]
)
def test_a_training_that_takes_more_than_a_week_allows_uses_up_several_weeks_and_no_more(days, code):
    # 8 GPUs for four hours, of 24 hours a week: the budget of nine days and eight hours.
    decision = decided(*nights("FAIL", "FAIL"), **ended(days_ago=days, hours=32))
    assert decision.code == code
    if code == "weekly_hours":
        assert "32.00 of 32 hours of training in 9.33 days are used (24 a week)" in decision.reason


def test_several_trainings_beyond_the_weekly_budget_never_spend_more_than_it_grows():
    outcomes, spent = {}, 0.0
    for day in range(365):
        now = NOW + timedelta(days=day)
        history = History(
            now=now,
            champion=CHAMPION,
            nights=nights("FAIL", "FAIL"),
            orders={number: order(number, end.ended)[number] for number, end in outcomes.items()},
            outcomes=outcomes,
            new_examples=500,
        )
        if decide(history, POLICY).code == "tripped":
            number = len(outcomes) + 1
            outcomes = {
                **outcomes,
                number: Outcome(number=number, result="registered", explanation="…", hours=40, ended=now),
            }
            spent += 40
    assert 365 / 7 * POLICY.max_hours_a_week - 40 < spent < 365 / 7 * POLICY.max_hours_a_week + 40


def test_budgets_look_back_seven_days_and_no_further():
    policy = Retraining(max_a_week=1, max_hours_a_week=9)
    assert decided(*nights("FAIL", "FAIL"), policy=policy, **ended(days_ago=6.9, hours=5)).code == "weekly_runs"
    assert decided(*nights("FAIL", "FAIL"), policy=policy, **ended(days_ago=7.1, hours=5)).code == "tripped"


def test_a_policy_of_no_retrainings_a_week_never_trips():
    assert decided(*nights("FAIL", "FAIL"), policy=Retraining(max_a_week=0)).code == "weekly_runs"


def test_without_new_examples_a_retraining_would_give_the_same_model():
    decision = decided(*nights("FAIL", "FAIL"), new_examples=99)
    assert decision.code == "too_few_new_examples"
    assert "99 training examples that the champion has not seen, at least 100 are required" in decision.reason
    assert decided(*nights("FAIL", "FAIL"), new_examples=100).code == "tripped"


def test_a_model_at_an_endpoint_is_never_retrained_and_the_nights_that_failed_are_named():
    decision = decided(*nights("FAIL", "FAIL"), hosted="https://llm.example.com/v1")
    assert (decision.action, decision.code) == ("none", "hosted")
    assert "the model is at https://llm.example.com/v1, where nothing is trained" in decision.reason
    assert decided(*nights("PASS", "PASS"), hosted="https://llm.example.com/v1").code == "quiet"


def test_every_bound_that_forbids_is_named_and_the_trip_as_well():
    decision = decided(*nights("FAIL", "FAIL"), new_examples=3, **ended(days_ago=1, hours=30))
    assert decision.code == "cooldown"
    for part in ("registered 1.0 days ago", "30.00 of 30 hours", "3 training examples", "2 of the newest 2 intervals"):
        assert part in decision.reason


def test_a_reason_stays_a_sentence_however_many_nights_and_metrics_fail():
    many = [night(day, "FAIL", failing=[f"metric_{n}" for n in range(19)]) for day in range(1, 24)]
    decision = decided(*many, policy=Retraining(nights=20, of_nights=23))
    assert decision.code == "tripped"
    assert "and 15 more; " in decision.reason
    assert "and 19 more (" in decision.reason
    assert len(decision.reason) < 600


def test_the_same_history_gives_the_same_decision():
    given = nights("FAIL", "PASS", "FAIL")
    assert decided(*given) == decided(*reversed(given))


def refused(*verdicts, forced=0):
    """Retrainings that ended a week apart, the last one a week ago, with what the gate said of each candidate."""
    known = {"orders": {}, "claims": {}, "outcomes": {}}
    for number, verdict in enumerate(verdicts, 1):
        one = ended(number, days_ago=7.0 * (len(verdicts) + 1 - number))
        one["outcomes"][number] = one["outcomes"][number].model_copy(update={"verdict": verdict and Verdict(verdict)})
        if number == forced:
            decision = one["orders"][number].decision.model_copy(update={"code": "forced"})
            one["orders"][number] = one["orders"][number].model_copy(update={"decision": decision})
        for kind, records in one.items():
            known[kind] |= records
    return known


def test_after_three_refused_candidates_in_a_row_a_person_is_asked():
    decision = decided(*nights("FAIL", "FAIL"), **refused("FAIL", "FAIL", "FAIL"))
    assert (decision.action, decision.code) == ("none", "refused")
    assert "the gate refused the last 3 candidates" in decision.reason
    assert "force one in the DAG retraining" in decision.reason
    assert decided(*nights("FAIL", "FAIL"), **refused("FAIL", "FAIL")).code == "tripped"
    assert (
        decided(*nights("FAIL", "FAIL"), policy=Retraining(max_refused=4), **refused(*["FAIL"] * 3)).code == "tripped"
    )


def test_a_candidate_that_passed_a_release_or_a_person_who_forces_one_begin_the_count_anew():
    assert decided(*nights("FAIL", "FAIL"), **refused("FAIL", "PASS", "FAIL", "FAIL")).code == "tripped"
    assert decided(*nights("FAIL", "FAIL"), **refused("FAIL", "FAIL", "FAIL", forced=3)).code == "tripped"
    since = {"released": NOW - timedelta(days=10)}
    assert decided(*nights("FAIL", "FAIL"), **since, **refused("FAIL", "FAIL", "FAIL")).code == "tripped"


def test_trainings_that_gave_no_candidate_are_not_refusals():
    known = refused("FAIL", "FAIL", None)
    assert decided(*nights("FAIL", "FAIL"), **known).code == "tripped"
