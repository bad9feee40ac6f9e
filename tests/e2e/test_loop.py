"""`make run`, from nothing to a retrained champion: what a newcomer sees, and what is true behind it."""

import re

import httpx
import pytest
from upath import UPath

from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.place import this_place
from nightshift.storage.manifest import require_manifest

# A processor that cannot multiply bf16 takes four times as long to train.
HOUR = 3600
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(HOUR)]
FINETUNE = ("banking_assistant_finetune", "make-run-2026-11-05")


@pytest.fixture(scope="module")
def loop(stack, nightshift):
    """The sample application, run to its end."""
    run = nightshift("run", stack, timeout=HOUR)
    assert run.returncode == 0, run.stdout + run.stderr
    with AirflowApi(this_place(stack)) as api:
        yield run.stdout, api


def result(api, task):
    return api.result(*FINETUNE, task)


def ended(api, dag):
    """The runs of a DAG that ended, newest first."""
    return [run["dag_run_id"] for run in api.runs(dag) if run["state"] == "success"]


def nights(api):
    """What the drift monitor said of each night."""
    dag = "banking_assistant_nightly_drift"
    results = [api.result(dag, run, "drift") for run in ended(api, dag)]
    return {night["night"]: night for found in results for night in found.get("nights", [])}


def _seconds(words):
    """The first time of a line: `3:20 min` or `9 s`."""
    time = next(word for word in words if word[0].isdigit())
    minutes, _, rest = time.rpartition(":")
    return 60 * int(minutes or 0) + int(rest)


def test_every_task_of_the_sample_ends_green(loop):
    _, api = loop
    days = api.runs("banking_assistant_ingest")
    assert len(days) == 6
    tasks = [task for run in days for task in api.tasks("banking_assistant_ingest", run["dag_run_id"])]
    tasks += api.tasks(*FINETUNE)
    assert {task["state"] for task in tasks} == {"success"}


def test_no_row_is_lost_between_the_sources_and_the_partitions(loop):
    _, api = loop
    for run in api.runs("banking_assistant_ingest"):
        counts = api.result("banking_assistant_ingest", run["dag_run_id"], "ingest")
        assert counts["rows_in"] > 1_000
        parts = ("kept", "duplicates", "near_duplicates", "quarantined")
        assert counts["rows_in"] == sum(counts[part] for part in parts)


def test_the_candidate_names_intents_that_the_base_model_does_not(loop):
    _, api = loop
    scores = result(api, "evaluate")["scores"]
    assert scores["base"]["exact_match"]["value"] <= 0.05
    assert scores["candidate"]["exact_match"]["value"] >= 0.8
    assert result(api, "evaluate")["examples"] >= 250


def test_quiet_nights_are_no_drift_and_nights_with_new_intents_are(loop):
    verdicts = nights(loop[1])
    assert [verdicts[f"2026-11-0{day}"]["verdict"] for day in (6, 7)] == ["FAIL", "FAIL"]
    assert {verdicts[f"2026-11-0{day}"]["verdict"] for day in (4, 5)} <= {"PASS", "WARN"}
    assert {"prompt_novelty", "exact_match"} <= set(verdicts["2026-11-07"]["failing"])


def test_drift_ordered_exactly_one_retraining_and_says_why(loop):
    _, api = loop
    dues = [api.result("banking_assistant_finetune", run, "due") for run in ended(api, "banking_assistant_finetune")]
    orders = [due for due in dues if due.get("order") is not None]
    assert [due["order"] for due in orders] == [1]
    assert "2 of the newest 3 intervals with a verdict failed" in orders[0]["reason"]
    assert all(
        due["reason"].startswith("nothing due") for due in dues if due not in orders and "asked" not in due["reason"]
    )


def test_the_new_champion_answers_the_drifted_night_better_than_the_old_one(loop):
    _, api = loop
    replays = [
        api.result("banking_assistant_release", run, "replay") for run in ended(api, "banking_assistant_release")
    ]
    (replay,) = [found for found in replays if found.get("night")]
    assert replay["verdict"] == "PASS", replay["reasons"]
    new, known = replay["parts"]["new"], replay["parts"]["known"]
    assert new["before"] < 0.1
    assert new["after"] >= 0.75
    assert known["gain"] > -0.05
    dag = "banking_assistant_release"
    assert "2" in {api.result(dag, run, "promote").get("version") for run in ended(api, dag)}


def test_bias_is_measured_and_not_only_found_wanting(loop):
    _, api = loop
    bias = api.result("banking_assistant_nightly_bias", "make-run-2026-11-07", "bias")
    assert bias["verdict"] in {"PASS", "WARN", "FAIL"}


def test_the_training_is_live_in_mlflow_and_names_what_it_was_made_from(loop, stack):
    _, api = loop
    train = result(api, "train")
    answer = httpx.get(
        f"{this_place(stack).mlflow_url}/api/2.0/mlflow/runs/get", params={"run_id": train["run_id"]}, trust_env=False
    )
    run = answer.raise_for_status().json()["run"]
    metrics = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
    assert {"loss", "learning_rate", "tokens_per_second", "memory_gb", "held_out_loss"} <= set(metrics)
    assert metrics["loss"] < 1
    assert run["info"]["status"] == "FINISHED"


def test_the_published_model_is_safetensors_and_no_pickle(loop):
    _, api = loop
    model = require_manifest(UPath(result(api, "train")["model"]))
    names = [file.name for file in model.files]
    assert any(name.endswith(".safetensors") for name in names)
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt"))]


def test_no_job_used_more_memory_than_six_gigabytes(loop, stack):
    storage = UPath(this_place(stack).storage)
    peaks = [
        float(re.search(r'"peak_memory_gb": *([\d.]+)', path.read_text())[1]) for path in storage.glob("**/result.json")
    ]
    assert len(peaks) >= 12
    assert max(peaks) <= 6


def test_the_summary_says_what_ran_what_was_measured_and_where_to_look(loop, stack):
    text, api = loop
    place = this_place(stack)
    assert f"{result(api, 'evaluate')['scores']['candidate']['exact_match']['value']:.1%}" in text
    for where in (place.airflow_url, place.mlflow_url, str(place.passwords)):
        assert where in text


def test_the_summary_says_where_the_time_went(loop):
    text = loop[0].split("Where the time went")[1].split("Where to look")[0]
    seconds = {words[0]: _seconds(words[1:]) for words in map(str.split, text.splitlines()) if words}
    parts = [seconds[name] for name in ("computing", "starting", "waiting")]
    assert sum(parts) == pytest.approx(seconds["in"], abs=2)
    assert seconds["computing"] > seconds["waiting"]


def test_a_second_run_finds_everything_done(loop, stack, nightshift):
    run = nightshift("run", stack, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "done already" in run.stdout
