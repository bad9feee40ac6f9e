"""A release that people decide about, with the real scheduler and API server: who may answer, and what an answer does."""

import os
import shutil
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from patience import wait_for
from tiny_model import tiny_model
from upath import UPath

from nightshift.alerts.outbox import Outbox
from nightshift.applications import load_application
from nightshift.data.examples import digest_of_messages
from nightshift.data.partition import partition_of, publish
from nightshift.data.storage import scratch
from nightshift.jobs import evaluate, register
from nightshift.jobs.progress import Progress
from nightshift.monitoring.gate_records import gate_records
from nightshift.monitoring.records import Records
from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.credentials import passwords
from nightshift.stack.place import this_place

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

APP = """\
description: Small enough to be judged at once.
schedule: null
base_model: {model}
sources:
  - uri: /nowhere/{{start:%Y-%m-%d}}.jsonl
    columns: {{prompt: text, answer: answer}}
evaluation: {{max_examples: 20, max_new_tokens: 4}}
gate: {{min_examples: 10, min_gain_over_base: 0, max_loss_to_champion: 1}}
approval: {{required: always, approvers: [approver], timeout_hours: {hours}, remind_hours: {reminded}}}
"""
APPLICATIONS = {"asked": 1, "hasty": 0.01}  # hours that they wait for an answer
HOSTILE = "<img src=x onerror=alert(1)> [click](http://evil.test)"
DONE = {"success", "failed", "skipped", "upstream_failed"}
PATIENCE = 300  # seconds that a small machine may take for one task


class Office:
    """Candidates as finetune registers them, of a model that nobody trained, and the people of a running stack."""

    def __init__(self, place, model: Path) -> None:
        self.place, self.model, self.made = place, model, 0

    def register(self, name: str) -> str:
        """Publish, judge and register a candidate, each another one by its digest; return its version."""
        self.made += 1
        storage, application = self.place.storage, load_application(name)
        snapshot, held_out = partition_of(storage, name, "snapshots", "planted"), scratch(UPath(storage))
        pq.write_table(pa.Table.from_pylist(list(examples())), held_out / "held_out.parquet")
        found = publish(snapshot, held_out, kind="snapshot", application=name, inputs={"planted": 1})
        model, folder = partition_of(storage, name, "models", f"planted-{self.made}"), scratch(UPath(storage))
        shutil.copytree(self.model, folder / "model")
        made = publish(model, folder, kind="model", application=name, inputs={"planted": self.made})
        common = {
            "application": application, "storage": storage, "model": str(model), "model_digest": made.digest,
        }  # fmt: skip
        judging = evaluate.Spec(**common, snapshot=str(snapshot), digest=found.digest, base_model=str(self.model))
        judged = evaluate.run(judging, Progress("evaluate"))
        spec = register.Spec(**common, evaluation=judged.evaluation, evaluation_digest=judged.digest)
        return register.run(spec, Progress("register")).version

    def answer(self, user: str, name: str, run: str, option: str, **form) -> httpx.Response:
        """Answer the request of a run by REST, as documented."""
        url = self.place.airflow_url
        login = {"username": user, "password": passwords(self.place)[user]}
        token = httpx.post(f"{url}/auth/token", json=login, trust_env=False).json()["access_token"]
        return httpx.patch(
            f"{url}/api/v2/dags/{name}_release/dagRuns/{run}/taskInstances/approve/-1/hitlDetails",
            headers={"Authorization": f"Bearer {token}"},
            json={"chosen_options": [option], "params_input": form},
            trust_env=False,
            timeout=60,
        )

    def champion(self, name: str) -> str | None:
        """The version that is in use."""
        return MlflowClient().get_registered_model(name).aliases.get("champion")

    def tags(self, name: str, version: str) -> dict[str, str]:
        """What MLflow says of a version."""
        return MlflowClient().get_model_version(name, version).tags


def examples():
    for number in range(30):
        turns = [{"role": "user", "content": f"where is {number}"}, {"role": "assistant", "content": HOSTILE}]
        yield {
            "digest": digest_of_messages(turns), "messages": turns, "prompt": turns[0]["content"], "answer": HOSTILE,
        }  # fmt: skip


@pytest.fixture(scope="module")
def office(stack, nightshift, tmp_path_factory):
    """A running stack with two applications more: `asked` waits an hour for an answer, `hasty` not a minute."""
    model = tiny_model(tmp_path_factory.mktemp("model"))
    for name, hours in APPLICATIONS.items():
        text = APP.format(model=model, hours=hours, reminded=hours / 2)
        (Path(stack["NIGHTSHIFT_APPS"]) / f"{name}.yaml").write_text(text)
    started = nightshift("up", stack)
    assert started.returncode == 0, started.stdout + started.stderr
    place, stdout = this_place(stack), os.dup(1)
    with AirflowApi(place) as api, pytest.MonkeyPatch.context() as environment:
        for name in APPLICATIONS:
            let_run(api, f"{name}_release")
        environment.setenv("MLFLOW_TRACKING_URI", place.mlflow_url)
        environment.setenv("NIGHTSHIFT_APPS", stack["NIGHTSHIFT_APPS"])
        yield Office(place, model)
    os.dup2(stdout, 1)  # jobs take it for their progress
    os.close(stdout)


def let_run(api, dag):
    """Unpause a DAG, and wait for the run that its clock starts then: it finds no candidate yet."""
    wait_for(lambda: api.has_dag(dag), PATIENCE, dag, every=1)
    api.unpause(dag)
    wait_for(lambda: [run for run in api.runs(dag) if run["state"] == "success"], PATIENCE, f"a run of {dag}", every=1)


def state(api, name, run, task="approve"):
    found = {entry["task_id"]: entry["state"] for entry in api.tasks(f"{name}_release", run)}
    return found.get(task)


def asked(api, name, run, **conf):
    """Start a run and wait until it asks; return the request."""
    api.trigger(f"{name}_release", run, conf)
    wait_for(lambda: state(api, name, run) == "awaiting_input", PATIENCE, f"{run} to ask", every=1)
    return api.result(f"{name}_release", run, "release")


def ended(api, name, run):
    """Wait until the job `promote` of a run has ended, and return its state and its result."""
    wait_for(lambda: state(api, name, run, "promote") in DONE, PATIENCE, f"{run} to promote", every=1)
    return state(api, name, run, "promote"), api.result(f"{name}_release", run, "promote")


def test_no_answer_in_time_is_a_no(office, api):
    office.register("hasty")
    decision = asked(api, "hasty", "nobody")
    assert ended(api, "hasty", "nobody")[0] == "skipped"
    records = Records(office.place.storage, "hasty")
    answer = records.answer(decision["request"])
    assert (answer.answer, answer.by) == ("timeout", "")
    assert office.champion("hasty") is None
    assert office.tags("hasty", "1")["nightshift.approval"] == "timeout"


def test_only_an_approver_answers_and_who_it_was_is_written_down_everywhere(office, api):
    version = office.register("asked")
    decision = asked(api, "asked", "first", reason="it is time")
    assert (decision["verdict"], decision["released"], decision["version"]) == ("PASS", False, version)
    (told,) = Outbox(office.place.storage, "asked").open()
    assert told.links["Answer"].startswith(f"{office.place.airflow_url}/dags/asked_release/runs/first/")
    request = Records(office.place.storage, "asked").request(decision["request"])
    assert (request.run_id, request.asked_by, request.approvers) == ("first", "operator", ["approver"])

    api.trigger("asked_release", "second", {})
    assert [
        office.answer(user, "asked", "first", "Approve").status_code for user in ("viewer", "operator", "admin")
    ] == [403] * 3
    assert office.answer("approver", "asked", "first", "Perhaps").status_code == 400
    assert {run["dag_run_id"]: run["state"] for run in api.runs("asked_release")}["second"] == "queued"
    assert office.champion("asked") is None

    given = office.answer("approver", "asked", "first", "Approve", reason="read them all", nobody_asked_for=[1])
    assert given.status_code == 200, given.text
    assert office.answer("approver", "asked", "first", "Reject").status_code == 409
    state_of, moved = ended(api, "asked", "first")
    assert (state_of, moved["version"], office.champion("asked")) == ("success", version, version)
    answer = Records(office.place.storage, "asked").answer(decision["request"])
    assert (answer.answer, answer.by, answer.reason) == ("approved", "approver", "read them all")
    tags = office.tags("asked", version)
    assert (tags["nightshift.approval_by"], tags["nightshift.approval_reason"]) == ("approver", "read them all")
    (released,) = [record for record in gate_records(office.place.storage, "asked") if record.released]
    assert (released.person, released.request) == ("approver", decision["request"])
    assert ended(api, "asked", "second")[0] == "skipped"
    assert state(api, "asked", "second") == "skipped"


def test_a_rejected_candidate_leaves_the_champion_and_is_not_asked_about_again(office, api):
    champion, version = office.champion("asked"), office.register("asked")
    decision = asked(api, "asked", "third")
    assert f"in place of version {champion}?" in decision["subject"]
    assert office.answer("approver", "asked", "third", "Reject", reason=HOSTILE).status_code == 200
    assert ended(api, "asked", "third")[0] == "skipped"
    assert office.champion("asked") == champion
    assert office.tags("asked", version)["nightshift.approval"] == "rejected"
    api.trigger("asked_release", "fourth", {})
    assert ended(api, "asked", "fourth")[0] == "skipped"
    assert "rejected it on" in api.result("asked_release", "fourth", "release")["reasons"][-1]
