"""What a look asks Airflow, and what it makes of the answers."""

import pytest

from nightshift.alerts.global_alerts import ALL_APPLICATIONS
from nightshift.orchestration.airflow_state import read_airflow_state


def dag(name, *tags):
    return {"dag_id": name, "is_paused": False, "tags": [{"name": tag} for tag in tags]}


@pytest.fixture
def airflow(answers):
    """An Airflow in which nothing runs."""
    answers.json = {
        "/api/v2/dags": {"dags": []},
        "/api/v2/dags/~/dagRuns": {"dag_runs": []},
        "/api/v2/dags/~/dagRuns/~/taskInstances": {"task_instances": []},
        "/api/v2/importErrors": {"import_errors": []},
    }
    return answers.json


def test_only_dags_of_known_applications_and_housekeeping_are_looked_at(rest, answers, airflow):
    airflow["/api/v2/dags"]["dags"] = [
        dag("bank_ingest", "nightshift", "bank"), dag("nightshift_usage", "nightshift"), dag("x", "nightshift", "gone"),
    ]  # fmt: skip
    airflow["/api/v2/dags/~/dagRuns"]["dag_runs"] = [{"dag_id": "x", "dag_run_id": "r", "state": "failed"}]
    airflow["/api/v2/dags/nightshift_usage/dagRuns"] = {"dag_runs": []}
    seen = read_airflow_state(rest, ["bank"])
    assert {name: [dag.dag_id for dag in dags] for name, dags in seen.dags.items()} == {
        "bank": ["bank_ingest"], ALL_APPLICATIONS: ["nightshift_usage"],
    }  # fmt: skip
    assert not seen.failed
    assert "tags=nightshift" in answers.asked[0]


def test_no_task_is_left_out_when_others_end_between_two_pages(rest, airflow):
    airflow["/api/v2/dags"]["dags"] = [dag("bank_ingest", "nightshift", "bank")]
    tasks = [{"dag_id": "bank_ingest", "dag_run_id": "r", "task_id": f"t{number:03d}"} for number in range(150)]

    def page(query):
        """As Airflow does it: what comes after the last one of the page before."""
        after = query.get("cursor", [""])[0]
        found = [task for task in tasks if task["task_id"] > after][:100]
        del tasks[:10]
        more = found and found[-1] != tasks[-1]
        return {"task_instances": found, "next_cursor": found[-1]["task_id"] if more else None}

    airflow["/api/v2/dags/~/dagRuns/~/taskInstances"] = page
    assert len(read_airflow_state(rest, ["bank"]).tasks["bank"]) == 150


def test_an_airflow_that_is_shared_is_asked_for_our_dags_alone(rest, answers, airflow):
    """More DAGs than one question names, and an application whose DAGs begin like a DAG of another."""
    ours = [f"{app}_{kind}" for app in ("bank", "bank_ingest") for kind in range(50)] + ["bank_ingest"]
    known = [dag(name, "nightshift", name.rpartition("_")[0]) for name in ours]
    airflow["/api/v2/dags"] = {"dags": known, "next_cursor": None}
    everything = [*ours, *(f"somebody_elses_{number}" for number in range(300))]

    def asked_for(query):
        prefixes = query.get("dag_id_prefix_pattern", [""])[0].split("|")
        return [name for name in everything if name.startswith(tuple(prefixes))]

    def runs(query):
        found = [{"dag_id": name, "dag_run_id": "r", "state": "running"} for name in asked_for(query)]
        return {"dag_runs": found, "next_cursor": None}

    def tasks(query):
        found = [{"dag_id": name, "dag_run_id": "r", "task_id": "t"} for name in asked_for(query)]
        return {"task_instances": found, "next_cursor": None}

    airflow["/api/v2/dags/~/dagRuns"], airflow["/api/v2/dags/~/dagRuns/~/taskInstances"] = runs, tasks
    seen = read_airflow_state(rest, ["bank", "bank_ingest"])
    asked = [path for path in answers.asked if "/dagRuns" in path]
    assert [path for path in asked if "dag_id_prefix_pattern" not in path or len(path) > 4_000] == []
    for found in (seen.failed, seen.unfinished, seen.tasks):
        assert sorted(one.dag_id for things in found.values() for one in things) == sorted(ours)


def test_housekeeping_fails_or_works_by_its_newest_run_however_old_it_is(rest, airflow):
    def audit(run, hour, state):
        ended = f"2020-11-21T{hour:02d}:00:00Z"
        return {"dag_id": "nightshift_audit", "dag_run_id": run, "state": state, "end_date": ended}

    runs = [audit("c", 3, "failed"), audit("a", 1, "success")]
    airflow["/api/v2/dags"]["dags"] = [dag("nightshift_audit", "nightshift")]
    airflow["/api/v2/dags/nightshift_audit/dagRuns"] = lambda query: {
        "dag_runs": [run for run in runs if run["state"] in query["state"]][: int(query["limit"][0])]
    }
    seen = read_airflow_state(rest, ["bank"])
    assert [(one.run, one.last_success) for one in seen.failed_housekeeping] == [("c", "a")]
    assert seen.works == {}
    runs.insert(0, audit("d", 4, "success"))
    seen = read_airflow_state(rest, ["bank"])
    assert seen.failed_housekeeping == []
    assert seen.works["nightshift_audit"].hour == 4
