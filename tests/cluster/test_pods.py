"""Jobs as single pods of a real cluster: what a person sees when they succeed, fail, or cannot start."""

import json

import pytest
from kubernetes_runs import ended, log, said
from patience import wait_for
from upath import UPath

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(1200)]
DAY = {"day": "2026-11-02"}


def test_a_pod_does_the_work_and_leaves_its_result_its_log_and_its_account(api, start, pods):
    run = start("pod_ingest", **DAY)
    tasks = ended(api, "pod_ingest", run)
    assert {task["state"] for task in tasks.values()} == {"success"}, log(api, "pod_ingest", run, "ingest")
    assert {task["try_number"] for task in tasks.values()} == {1}
    assert api.result("pod_ingest", run, "ingest")["kept"] > 300
    text = log(api, "pod_ingest", run, "ingest")
    assert "ingest: running" in text or "rows" in text
    assert "mutually exclusive" not in text
    wait_for(lambda: not pods(run), 60, "the pods that succeeded to be deleted")
    accounts = [json.loads(path.read_bytes()) for path in UPath("s3://nightshift/storage/pod/usage").glob("*/*.json")]
    mine = [account for account in accounts if account["run_id"] == run]
    assert {account["task_id"] for account in mine} == {"ingest", "validate"}
    assert all(account["started"] < account["ended"] and account["price_per_hour"] == 3.6 for account in mine)


def test_a_job_that_fails_shows_its_exit_code_and_reason_and_is_not_tried_in_vain(api, start):
    run = start("wrong_ingest", **DAY)
    tasks = ended(api, "wrong_ingest", run)
    assert (tasks["ingest"]["state"], tasks["ingest"]["try_number"]) == ("failed", 1)
    text = log(api, "wrong_ingest", run, "ingest")
    assert "exit code 65: bad input (a retry cannot help)" in text
    assert "no_such_column" in text


def test_a_pod_over_its_memory_is_told_what_to_raise(api, start):
    run = start("hungry_ingest", **DAY)
    said(api, "hungry_ingest", run, "ingest", words="OOMKilled); raise memory_gb", seconds=180)


def test_an_image_that_cannot_be_pulled_is_named(api, start):
    run = start("imageless_ingest", **DAY)
    text = said(api, "imageless_ingest", run, "ingest", words="did not start: ", seconds=180)
    assert "nightshift.invalid/nothing:1" in text
