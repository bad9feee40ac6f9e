"""What results of jobs say to people, and what they keep to themselves."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from told import application

from nightshift.alerts.alert import ResultAlerts
from nightshift.alerts.of_jobs import alerts_of
from nightshift.jobs import bias, drift, ingest, validate
from nightshift.jobs.monitors import IntervalResult, said_of
from nightshift.orchestration.contest import ReleaseDecision
from nightshift.verdict import Verdict

TOLD = ResultAlerts(
    application=application(),
    where="bank, DAG d, run r, task t",
    links={"Task log": "https://airflow.example.org/log"},
    report_page=lambda uri: f"https://airflow.example.org/report?{uri}" if uri else "",
    failure="job_failed-1",
    now=datetime(2026, 11, 22, 5, tzinfo=UTC),
)
DAY = SimpleNamespace(
    interval=SimpleNamespace(key="2026-11-21"), part="examples", examples="s3://b/bank/examples/2026-11-21"
)


def said(job, result):
    """What a result says, through the same JSON that Airflow passes on."""
    alerts = alerts_of(job, DAY, result if isinstance(result, dict) else result.model_dump(mode="json"), TOLD)
    return [(alert.kind.value, "good" if alert.good else alert.severity.value, alert.condition) for alert in alerts]


def bad(job, result):
    return [one for one in said(job, result) if one[1] != "good"]


def night(verdict, name="2026-11-21", **fields):
    return IntervalResult(night=name, verdict=verdict, reasons=["topics 0.31, 0.20 is FAIL"], rows=80, **fields)


def nights(*judged, module=drift, missing=None):
    worst = max((one.verdict for one in judged), key=list(Verdict).index, default=Verdict.INSUFFICIENT_DATA)
    reasons = [f"{one.night} {one.verdict}" for one in judged]
    return module.Result(verdict=worst, reasons=reasons, nights=list(judged), missing=missing)


def decided(code):
    """What the ledger said after a night."""
    return {"decision": code, "night": "2026-11-21", "reason": "because", "order": None}


def test_a_normal_night_says_nothing_but_what_it_ends():
    assert bad("ingest", ingest.Result(verdict="PASS", reason="300 of 300 rows kept")) == []
    assert bad("validate", validate.Result(verdict="PASS", reasons=[], measures={}, data_docs="d", run_url="")) == []
    assert bad("drift", nights(night("PASS"))) == bad("bias", nights(night("WARN"), module=bias)) == []
    assert said("drift", nights()) == []  # a look that found nothing to judge


def test_an_alert_of_drift_names_its_kind_and_one_of_a_night_without_kinds_does_not():
    concept = night("FAIL", failing=["exact_match"], worst="exact_match", kinds=["concept drift"])
    titles = []
    for result in (nights(concept), nights(concept.model_copy(update={"kinds": []}))):
        (alert,) = (
            one for one in alerts_of("drift", DAY, result.model_dump(mode="json"), TOLD) if not one.good and one.night
        )
        titles.append(alert.title)
    assert titles == [
        "concept drift in the interval 2026-11-21, worst in exact match",
        "drift in the interval 2026-11-21, worst in exact match",
    ]


def test_a_challengers_share_that_is_too_small_is_told_to_nobody_and_its_drift_is_a_condition_of_its_own():
    few, drifted = (night(verdict).model_copy(update={"challenger": True}) for verdict in ("INSUFFICIENT_DATA", "FAIL"))
    assert said_of([night("PASS"), few], None)["verdict"] is Verdict.PASS
    assert [one for one in alerts_of("drift", DAY, nights(few).model_dump(mode="json"), TOLD) if not one.good] == []
    found = alerts_of("drift", DAY, nights(night("PASS"), drifted).model_dump(mode="json"), TOLD)
    assert [(one.condition, one.night) for one in found if not one.good] == [("drift of the challenger", "2026-11-21")]


def test_rejected_data_says_why_and_leaves_nothing_to_say_of_the_failed_run():
    result = validate.Result(verdict="FAIL", reasons=["12 % empty"], measures={}, data_docs="d", run_url="")
    (alert,) = alerts_of("validate", DAY, result.model_dump(mode="json"), TOLD)
    assert (alert.kind, alert.night, alert.facts) == ("data_rejected", "2026-11-21", ["12 % empty"])
    assert alert.explains == ["job_failed-1"]
    assert alert.links == {"Task log": "https://airflow.example.org/log"}
    assert ("data_rejected", "good", "data rejected") in said(
        "validate", result.model_copy(update={"verdict": Verdict.PASS})
    )


def causes(job, *results):
    """What makes each of these results news."""
    return [
        next(one.cause for one in alerts_of(job, DAY, result.model_dump(mode="json"), TOLD) if not one.good)
        for result in results
    ]


def test_rejected_data_and_a_night_without_a_verdict_are_news_again_for_another_reason_and_not_for_other_numbers():
    said = (
        "empty must be at most 0.05 (critical): it is 0.12",
        "empty must be at most 0.05 (critical): it is 0.13",
        "gone",
    )
    rejected = [
        validate.Result(verdict="FAIL", reasons=[reason], measures={}, data_docs="d", run_url="") for reason in said
    ]
    assert [len(set(causes("validate", *pair))) for pair in (rejected[:2], rejected[1:])] == [1, 2]
    lost = [nights(night("ERROR").model_copy(update={"reasons": [reason]})) for reason in said]
    assert [len(set(causes("drift", *pair))) for pair in (lost[:2], lost[1:])] == [1, 2]


def test_documents_that_are_too_old_are_told_until_they_are_renewed():
    old, renewed, unknown = (
        drift.Result(verdict="PASS", reasons=[], stale_index=one) for one in ("8.0 days", "", None)
    )
    assert said("drift", old) == [("no_data", "warning", "stale index")]
    assert said("drift", renewed) == [("no_data", "good", "stale index")]
    assert said("drift", unknown) == []


def test_every_missing_night_is_news():
    missing = [nights(night("PASS"), missing=day) for day in ("2026-11-22", "2026-11-23")]
    assert causes("drift", *missing) == ["2026-11-22", "2026-11-23"]


@pytest.mark.parametrize(("verdict", "title"), [("WARN", "a file with rows of bank"), ("FAIL", "all rows of bank")])
def test_files_of_which_no_row_could_be_used_are_told(verdict, title):
    result = ingest.Result(verdict=verdict, reason="0 of 9 rows kept. drop.csv: it seems to be an HTML page")
    recovery, alert = alerts_of("ingest", DAY, result.model_dump(mode="json"), TOLD)
    assert recovery.good
    assert (alert.kind, alert.condition) == ("data_rejected", "unusable: examples")
    assert alert.title == f"{title} for 2026-11-21 could not be used"
    assert alert.facts == [result.reason]


def test_no_rows_is_told_and_the_next_rows_end_it():
    assert said("ingest", ingest.Result(verdict="INSUFFICIENT_DATA", reason="no file")) == [
        ("no_data", "warning", "no data: examples")
    ]
    assert said("ingest", ingest.Result(verdict="PASS", reason="ok")) == [
        ("no_data", "good", "no data: examples"), ("data_rejected", "good", "unusable: examples")
    ]  # fmt: skip
    (alert,) = alerts_of(
        "ingest", DAY, {"verdict": "INSUFFICIENT_DATA", "reason": "there is no file s3://drops/*.csv"}, TOLD
    )
    assert alert.title == "no data arrived: no rows of bank for 2026-11-21"
    assert alert.facts == ["there is no file s3://drops/*.csv"]
    assert "clock.arrival_hours" in alert.todo


@pytest.mark.parametrize(("job", "module", "severity"), [("drift", drift, "warning"), ("bias", bias, "critical")])
def test_a_night_that_fails_says_what_moved_and_leads_to_its_report(job, module, severity):
    result = nights(night("FAIL", failing=["topics", "length"], worst="topics", report="s3://b/r"), module=module)
    alert = next(one for one in alerts_of(job, DAY, result.model_dump(mode="json"), TOLD) if not one.good)
    assert (alert.kind.value, alert.severity.value, alert.night) == (job, severity, "2026-11-21")
    assert alert.title == f"{job} in the interval 2026-11-21, worst in topics"
    assert alert.cause == "length, topics"
    assert alert.links["Report"] == "https://airflow.example.org/report?s3://b/r"
    assert alert.explains == []  # a night that fails fails no task


def test_a_night_that_cannot_be_judged_is_critical_and_explains_the_failed_run():
    result = nights(night("ERROR"))
    (alert,) = (one for one in alerts_of("drift", DAY, result.model_dump(mode="json"), TOLD) if not one.good)
    assert (alert.severity.value, alert.condition, alert.explains) == ("critical", "drift not judged", ["job_failed-1"])


def test_a_night_that_did_not_come_is_told_once_and_not_as_too_little_data_too():
    silent = night("INSUFFICIENT_DATA", "2026-11-22")
    assert bad("drift", nights(night("PASS"), silent, missing="2026-11-22")) == [
        ("no_data", "critical", "no data: night")
    ]


def test_nights_are_told_each_with_its_own_and_the_last_word_ends_what_held():
    result = nights(night("FAIL", "2026-11-20", failing=["topics"]), night("PASS", "2026-11-21"))
    alerts = [one for one in alerts_of("drift", DAY, result.model_dump(mode="json"), TOLD) if one.condition == "drift"]
    assert [(one.night, one.good) for one in alerts] == [("2026-11-20", False), ("2026-11-21", True)]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("cooldown", ["warning"]),
        ("weekly_hours", ["warning"]),
        ("refused", ["warning"]),
        ("too_few_new_examples", ["warning"]),
        ("snoozed", ["info"]),
        ("open", []),
        ("too_few_nights", []),
        ("quiet", []),
    ],
)
def test_a_refused_retraining_is_told_unless_one_is_under_way_or_none_is_due(code, expected):
    told = bad("retraining", decided(code))
    assert told == [("retraining_refused", severity, "retraining refused") for severity in expected]


@pytest.mark.parametrize(("code", "over"), [("quiet", 1), ("open", 1), ("no_data", 0), (None, 0), ("snoozed", 0)])
def test_a_refused_retraining_is_over_when_nothing_keeps_it_back_any_more(code, over):
    assert said("retraining", decided(code)).count(("retraining_refused", "good", "retraining refused")) == over


def test_an_ordered_retraining_is_told_when_it_starts():
    assert bad("retraining", decided("tripped")) == []
    started = {"reason": "2 of 3 nights failed", "order": 7}
    assert bad("due", started) == [("retraining_started", "info", "")]
    assert said("due", {"reason": "ada asked for a training", "order": None}) == []


def test_a_retraining_that_ends_says_how():
    ended = {"reason": "version 8", "order": 7, "outcome": "registered", "hours": 1.5}
    assert bad("close", ended) == [("retraining_finished", "info", "")]
    failed = {"reason": "train failed", "order": 7, "outcome": "failed", "hours": 0.2}
    (alert,) = alerts_of("close", DAY, failed, TOLD)
    assert (alert.severity.value, alert.condition, alert.explains) == ("warning", "retraining failed", ["job_failed-1"])
    assert said("close", {"reason": "no order", "order": None, "outcome": "failed", "hours": 0.0}) == []


def test_a_retraining_that_a_person_cancelled_is_no_trouble():
    cancelled = {"reason": "marked as failed by hand", "order": 7, "outcome": "cancelled", "hours": 0.2}
    (alert,) = alerts_of("close", DAY, cancelled, TOLD)
    assert (alert.severity.value, alert.condition, alert.explains) == ("info", "", ["job_failed-1"])


def test_a_candidate_that_is_held_back_is_told_once_unless_people_are_asked():
    held = ReleaseDecision(verdict="FAIL", reasons=["worse than the champion"], version="8")
    assert bad("release", held) == [("gate_failed", "warning", "gate failed")]
    ids = {
        alerts_of("release", DAY, held.model_dump(mode="json"), TOLD)[0].id,
        alerts_of("release", DAY, held.model_dump(mode="json"), ResultAlerts(**{**vars(TOLD), "failure": "other"}))[
            0
        ].id,
    }
    assert len(ids) == 1
    assert said("release", held.model_copy(update={"ask": True})) == []
    assert said("release", held.model_copy(update={"released": True})) == []
    assert said("release", ReleaseDecision(verdict="INSUFFICIENT_DATA", reasons=["there is no candidate yet"])) == []


def test_a_new_champion_ends_what_was_said_of_a_candidate():
    first = {"verdict": "PASS", "reasons": [], "version": "8", "replaced": None}
    assert said("promote", first) == [
        ("gate_failed", "good", "gate failed"),
        ("below_promise", "good", "below promise"),
    ]


def test_a_release_ends_what_was_found_with_the_version_that_it_replaced():
    released = {"verdict": "PASS", "reasons": [], "version": "8", "replaced": "7"}
    assert said("promote", released)[2:] == [("drift", "good", "drift"), ("bias", "good", "bias")]
    drift = alerts_of("promote", None, released, TOLD)[2]
    assert drift.title == "version 8 replaced version 7, for which drift was found"


def test_what_is_no_news_says_nothing():
    assert said("step_in", {"reason": "snoozed", "order": None}) == []


def test_the_same_night_may_be_told_again_by_another_run_but_not_by_a_retry():
    result = nights(night("FAIL", failing=["topics"])).model_dump(mode="json")
    first, retry = (alerts_of("drift", DAY, result, TOLD)[0].id for _ in range(2))
    other = alerts_of("drift", DAY, result, ResultAlerts(**{**vars(TOLD), "failure": "job_failed-2"}))[0].id
    assert (first == retry, first == other) == (True, False)
