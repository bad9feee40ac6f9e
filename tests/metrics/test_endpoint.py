"""The endpoint that Prometheus scrapes: who is let in, what it shows, and that one trouble takes nothing else away."""

import shutil
import time
from collections import Counter
from datetime import UTC, datetime

import in_airflow
import pytest
from kept_pods import keep, pod
from stored_application import LAST, StoredApplication, days, of

from nightshift.alerts.alert import Alert
from nightshift.alerts.outbox import Outbox
from nightshift.ledger.records import Outcome
from nightshift.ledger.spending import keep_summary

TOKEN = "a-token-of-the-tests"
BUDGET = "budget: {gpu_hours_a_week: 10, cost_a_month: 1000, storage_price: 0.02}\n"


def get(client, token=TOKEN, **headers):
    given = {"Authorization": f"Bearer {token}"} if token is not None else {}
    return client.get("/nightshift/metrics", headers={**given, **headers})


def test_only_the_token_opens_it_and_a_login_does_not(client, airflow, applications):
    applications("bank")
    _, login = airflow
    assert get(client).status_code == 200
    for token in (None, "", "wrong", TOKEN[:-1], TOKEN + "x", login("admin")):
        answer = get(client, token)
        assert answer.status_code == 401
        assert "bank" not in answer.text
        assert answer.headers["www-authenticate"] == "Bearer"
    basic = client.get("/nightshift/metrics", headers={"Authorization": f"Basic {TOKEN}"})
    assert basic.status_code == 401


@pytest.mark.parametrize("token", [None, "", "short"])
def test_without_a_token_there_is_no_endpoint(client, monkeypatch, token):
    monkeypatch.delenv("NIGHTSHIFT_METRICS_TOKEN")
    if token is not None:
        monkeypatch.setenv("NIGHTSHIFT_METRICS_TOKEN", token)
    assert {get(client, given).status_code for given in (None, "", token or "")} == {404}


def test_the_dashboard_beside_it_still_asks_for_a_login(client):
    assert client.get("/nightshift/", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 403
    assert client.get("/nightshift/", headers={"Accept": "text/html"}).status_code == 303
    assert client.post("/nightshift/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code >= 400


def test_it_speaks_the_text_format_and_openmetrics_and_nobody_keeps_what_it_says(client, applications):
    applications("bank").champion()
    assert get(client).headers["content-type"].startswith("text/plain; version=0.0.4")
    answer = get(client, Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text.endswith("# EOF\n")
    assert 'nightshift_releases_total{application="bank"} 1.0' in answer.text


def test_what_operators_ask_about_an_application_is_there(scrape, applications):
    bank = applications("bank", more=BUDGET)
    bank.champion(score=0.87)
    for day in days(3):
        bank.interactions(day, exact_match=0.6, rows=480)
        bank.drift(day, "FAIL" if day == LAST else "PASS", excess=0.4)
        bank.bias(day, "WARN", gap=0.04)
    bank.partition(
        "examples", "examples", [str(LAST)], {}, interval=of(LAST), facts={"splits": {"train": 300}},
        counts={"rows_in": 400, "kept": 350, "duplicates": 10, "near_duplicates": 5, "quarantined": 35},
    )  # fmt: skip
    bank.retraining(1, LAST)
    bank.retraining(2, LAST, ended=False)
    Outbox(bank.storage, "bank").accept(
        Alert(application="bank", kind="drift", severity="critical", title="x", condition="d")
    )
    Outbox(bank.storage, "bank").looked(datetime(2026, 11, 28, tzinfo=UTC))
    seen = scrape()
    expected = {
        ("application_readable",): 1,
        ("application_state", "failing"): 1,
        ("application_state", "healthy"): 0,
        ("verdict", "drift", "FAIL"): 1,
        ("verdict", "drift", "PASS"): 0,
        ("intervals", "drift", "PASS"): 2,
        ("intervals", "bias", "WARN"): 3,
        ("drift_excess", "exact_match"): 0.4,
        ("drift_floor", "exact_match", "FAIL"): 0.2,
        ("bias_gap", "prompt_language", "toxicity"): 0.04,
        ("bias_gap_limit",): 0.1,
        ("score", "exact_match"): 0.6,
        ("example_rows", "quarantined"): 35,
        ("interaction_rows",): 480,
        ("champion_info", "1", "a1" * 6): 1,
        ("champion_score", "exact_match", "value"): 0.87,
        ("releases_total",): 1,
        ("retrainings_total",): 2,
        ("retraining_open", "training"): 1,
        ("retraining_open", "waiting"): 0,
        ("retraining_outcomes", "registered"): 1,
        ("gate_decisions", "PASS"): 1,
        ("alerts_open", "critical"): 1,
        ("looked_timestamp_seconds",): datetime(2026, 11, 28, tzinfo=UTC).timestamp(),
        ("partition_interval_start_timestamp_seconds", "drift"): of(LAST).start.timestamp(),
    }
    found = {key: seen.get((f"nightshift_{key[0]}", "bank", *key[1:])) for key in expected}
    assert found == expected
    assert seen["nightshift_partition_created_timestamp_seconds", "bank", "interactions"] > time.time() - 600


def test_a_verdict_about_an_earlier_champion_is_no_verdict_about_this_one(scrape, applications):
    bank = applications("bank")
    bank.champion("1")
    bank.drift(LAST, "FAIL")
    assert scrape()["nightshift_verdict", "bank", "drift", "FAIL"] == 1
    bank.champion("2", released=datetime.now(UTC))
    seen = scrape()
    assert {value for key, value in seen.items() if key[:3] == ("nightshift_verdict", "bank", "drift")} == {0}
    assert seen["nightshift_intervals", "bank", "drift", "FAIL"] == 1


def test_what_an_application_cost_is_held_against_its_budget(scrape, applications):
    bank = applications("bank", more=BUDGET)
    bank.retraining(1, LAST, ended=False)
    bank.ledger.create(
        Outcome(number=1, result="registered", explanation="…", gpu_hours=4.0, cost=12.0, ended=datetime.now(UTC))
    )
    bank.partition("interactions", "interactions", [str(LAST)], {}, interval=of(LAST),
                   facts={"tokens": 700, "prompt_tokens": 9000, "cost": 2.5})  # fmt: skip
    keep(bank.storage, pod("train-1", hours=2))  # 8 GPU-hours for 20
    assert ("nightshift_gpu_hours", "bank", "7") not in scrape()  # nobody looked yet
    keep_summary(bank.ledger, datetime.now(UTC))
    seen = scrape()
    expected = {
        ("gpu_hours", "7"): 8, ("cost", "pods", "7"): 20, ("cost", "endpoint", "30"): 2.5, ("tokens", "prompt", "7"): 9000,
        ("budget", "gpu_hours_a_week"): 10, ("budget_used_ratio", "gpu_hours_a_week"): 0.8,
        ("budget_holds_retraining", "gpu_hours_a_week"): 1, ("budget_holds_retraining", "cost_a_month"): 0,
        ("next_retraining_gpu_hours",): 4, ("next_retraining_cost",): 12,
    }  # fmt: skip
    assert {key: seen.get((f"nightshift_{key[0]}", "bank", *key[1:])) for key in expected} == expected


def test_what_airflow_knows_is_beside_it(scrape, applications, tmp_path):
    applications("bank")
    in_airflow.write_dags(tmp_path)
    work = {"job": "train", "seconds": 90.5, "peak_memory_gb": 3.2, "tokens_per_second": 410.0}
    in_airflow.run("earlier", state="success", work={**work, "seconds": 7.0})
    in_airflow.run("done", state="success", work=work)
    in_airflow.run("now", tasks={"train": ("queued", 30), "evaluate": ("scheduled", 5)})
    in_airflow.run("housekeeping", dag_id="nightshift_alerts", state="success")
    in_airflow.beat("SchedulerJob", 600)
    in_airflow.beat("TriggererJob", 2)
    seen, now = scrape(), time.time()
    assert seen["nightshift_tasks", "bank", "queued"] == 1
    assert seen["nightshift_tasks", "bank", "deferred"] == 0
    assert now - seen["nightshift_task_waiting_since_timestamp_seconds", "bank", "queued"] == pytest.approx(
        1800, abs=60
    )
    assert now - seen["nightshift_task_waiting_since_timestamp_seconds", "bank", "scheduled"] == pytest.approx(
        360, abs=60
    )
    assert seen["nightshift_dag_runs", "bank", "running"] == 1
    assert seen["nightshift_job_seconds", "bank", "train"] == 90.5
    assert seen["nightshift_job_peak_memory_bytes", "bank", "train"] == 3.2e9
    assert seen["nightshift_job_tokens_per_second", "bank", "train"] == 410
    assert now - seen["nightshift_airflow_heartbeat_timestamp_seconds", "scheduler"] == pytest.approx(600, abs=30)
    assert seen["nightshift_housekeeping_works", "nightshift_alerts"] == 1
    assert seen["nightshift_airflow_readable",] == 1


def test_what_cannot_be_read_of_one_application_takes_nothing_from_the_others(scrape, applications, tmp_path):
    for name in ("bank", "broken", "shop"):
        applications(name).champion()
    (applications.folder / "shop.yaml").write_text("description: [")
    releases = tmp_path / "storage" / "broken" / "ledger" / "releases" / "0001.json"
    releases.write_text("{")
    seen = scrape()
    assert {name: seen["nightshift_application_readable", name] for name in ("bank", "broken", "shop")} == {
        "bank": 1, "broken": 0, "shop": 0,
    }  # fmt: skip
    assert {key[0] for key in seen if "broken" in key[1:]} == {
        "nightshift_application_readable", "nightshift_tasks", "nightshift_dag_runs",
    }  # fmt: skip
    assert seen["nightshift_releases_total", "bank"] == 1


def test_without_airflows_database_the_ledger_is_still_shown(scrape, applications, monkeypatch):
    applications("bank").champion()
    monkeypatch.setattr("nightshift.metrics.gathering.samples_of_airflow", lambda *_: 1 / 0)
    seen = scrape()
    assert (seen["nightshift_airflow_readable",], seen["nightshift_releases_total", "bank"]) == (0, 1)


def test_what_models_and_endpoints_write_is_shown_as_text_and_makes_no_series_of_its_own(scrape, applications):
    bank = applications("bank")
    bank.champion()
    hostile = 'x"} 1\nnightshift_verdict{application="bank",monitor="drift",verdict="FAIL'
    bank.drift(LAST, "PASS", moved=hostile)
    bank.partition("interactions", "interactions", [str(LAST)], {}, interval=of(LAST),
                   counts={"rows": 9, "stop": 4, hostile: 3, "because": 2})  # fmt: skip
    seen = scrape()
    assert seen["nightshift_verdict", "bank", "drift", "FAIL"] == 0
    assert ("nightshift_drift_excess", "bank", hostile) in seen
    endings = {key[2]: value for key, value in seen.items() if key[0] == "nightshift_interaction_endings"}
    assert endings == {"stop": 4, "other": 5}


def test_a_second_scrape_within_seconds_costs_storage_nothing(client, applications, monkeypatch):
    applications("bank")
    monkeypatch.setattr("nightshift.metrics.gathering.FRESH_SECONDS", 60.0)
    get(client)
    monkeypatch.setattr("nightshift.metrics.gathering.gather", lambda _: 1 / 0)
    assert get(client).status_code == 200


def test_a_scrape_that_waits_for_another_is_refused_in_time(client, monkeypatch):
    from nightshift.metrics import gathering
    from nightshift.metrics.app import scrapes

    monkeypatch.setattr(gathering, "PATIENCE_SECONDS", 0.05)
    with scrapes._gathering:
        answer = get(client)
    assert answer.status_code == 503


def write_year(storage, name, nights):
    """Months of one application with as many metrics, groups and candidates as it may have."""
    app = StoredApplication(storage, name)
    app.champion()
    for day in days(nights):
        app.interactions(day, means={f"own_{number}": 0.5 for number in range(50)})
        app.drift(day)
        app.bias(day)
    for number in range(1, 6):
        app.retraining(number, LAST)
    app.ledger.keep_index()
    keep_summary(app.ledger, datetime.now(UTC))


@pytest.mark.slow
def test_fifty_applications_are_scraped_in_time_and_their_series_do_not_grow_with_the_history(
    scrape, applications, tmp_path, monkeypatch
):
    # Ours and fifty of the team's own: as many as an application may have.
    monkeypatch.setattr("nightshift.dashboard.own_threads.PATIENCE_SECONDS", 300.0)  # a machine that others use, too
    monkeypatch.setattr("stored_application.METRICS", ("exact_match", *(f"own_{number}" for number in range(64))))
    storage = (tmp_path / "storage").as_uri()
    write_year(storage, "app_00", 5)
    few = _scraped(scrape, applications, tmp_path, ["app_00"])
    shutil.rmtree(tmp_path / "storage")
    write_year(storage, "app_00", 40)
    names = [f"app_{number:02d}" for number in range(50)]
    for name in names[1:]:
        shutil.copytree(tmp_path / "storage" / "app_00", tmp_path / "storage" / name)
    began = time.process_time()
    many = _scraped(scrape, applications, tmp_path, names)
    seconds = time.process_time() - began
    series = Counter(key[1] for key in many if len(key) > 1 and key[1].startswith("app_"))
    assert set(series) == set(names)
    assert set(series.values()) == {Counter(key[1] for key in few if len(key) > 1)["app_00"]}
    assert max(series.values()) < 500
    assert seconds < 20  # of the first scrape, which reads and parses all of it; 7 on two busy cores
    assert not [key for key in many if any(str(LAST) in label for label in key[1:])]


def _scraped(scrape, applications, tmp_path, names):
    for name in names:
        applications(name)
    return scrape()
