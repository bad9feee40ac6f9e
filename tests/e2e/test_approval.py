"""A release that people decide about, by REST with the real scheduler: who may answer, with what, and until when."""

import os
import shutil
from pathlib import Path
from urllib.parse import quote

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from patience import wait_for
from tiny_model import tiny_model
from upath import UPath

from nightshift.alerts.outbox import Outbox
from nightshift.data.examples import digest_of_messages
from nightshift.jobs import evaluate, register
from nightshift.jobs.progress import Progress
from nightshift.ledger.store import Ledger
from nightshift.settings.applications import load_application
from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.credentials import passwords
from nightshift.stack.place import this_place
from nightshift.storage.files import scratch
from nightshift.storage.partition import partition_of, publish

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

APPLICATIONS = ("asked", "hasty")
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
            f"{url}/api/v2/dags/{name}_release/dagRuns/{quote(run)}/taskInstances/approve/-1/hitlDetails",
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
def office(running_stack, tmp_path_factory):
    """The stack, and a candidate of each of two applications that ask: `asked` waits an hour, `hasty` not a minute.

    It is the run of their clock that asks, because they are let run when the candidates are there.
    """
    model = tiny_model(tmp_path_factory.mktemp("model"))
    place, stdout = this_place(running_stack), os.dup(1)
    with AirflowApi(place) as api, pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", place.mlflow_url)
        environment.setenv("NIGHTSHIFT_PROJECT", running_stack["NIGHTSHIFT_PROJECT"])
        office = Office(place, model)
        for name in APPLICATIONS:
            office.register(name)
            wait_for(lambda name=name: api.has_dag(f"{name}_release"), PATIENCE, f"the DAGs of {name}", every=1)
            api.unpause(f"{name}_release")
        yield office
    os.dup2(stdout, 1)  # jobs take it for their progress
    os.close(stdout)


def state(api, name, run, task="approve"):
    found = {entry["task_id"]: entry["state"] for entry in api.tasks(f"{name}_release", run)}
    return found.get(task)


def request_of(office, name):
    """The question that an application put to its approvers."""
    ledger = Ledger(office.place.storage, name)
    return next(iter(wait_for(ledger.requests, PATIENCE, f"{name} to ask", every=1).values()))


def test_only_an_approver_answers_whatever_the_form_holds_and_a_second_run_waits(office, api):
    request = request_of(office, "asked")
    run = request.run_id
    wait_for(lambda: state(api, "asked", run) == "awaiting_input", PATIENCE, f"{run} to wait", every=1)
    told = Outbox(office.place.storage, "asked")
    (alert,) = wait_for(told.open, PATIENCE, "the alert", every=1)
    assert alert.links["Answer"].startswith(f"{office.place.airflow_url}/dags/asked_release/runs/")

    api.trigger("asked_release", "second", {})
    refused = [office.answer(user, "asked", run, "Approve").status_code for user in ("viewer", "operator", "admin")]
    assert refused == [403] * 3
    assert office.answer("approver", "asked", run, "Perhaps").status_code == 400
    assert {found["dag_run_id"]: found["state"] for found in api.runs("asked_release")}["second"] == "queued"
    assert office.champion("asked") is None

    given = office.answer("approver", "asked", run, "Approve", why=["read", HOSTILE], nobody_asked_for=[1])
    assert given.status_code == 200, given.text
    assert office.answer("approver", "asked", run, "Reject").status_code == 409
    wait_for(lambda: state(api, "asked", run, "promote") in DONE, PATIENCE, "the release", every=1)
    assert (state(api, "asked", run, "promote"), office.champion("asked")) == ("success", request.version)
    answer = Ledger(office.place.storage, "asked").answer(request.id)
    assert (answer.answer, answer.by, answer.reason) == ("approved", "approver", str(["read", HOSTILE]))
    tags = office.tags("asked", request.version)
    assert (tags["nightshift.approval_by"], tags["nightshift.approval_reason"]) == ("approver", answer.reason)
    (released,) = [record for record in Ledger(office.place.storage, "asked").gate_records() if record.released]
    assert (released.person, released.request) == ("approver", request.id)
    wait_for(lambda: state(api, "asked", "second", "promote") in DONE, PATIENCE, "the second run", every=1)
    assert (state(api, "asked", "second"), state(api, "asked", "second", "promote")) == ("skipped", "skipped")


def test_no_answer_in_time_is_a_no(office, api):
    request = request_of(office, "hasty")
    wait_for(lambda: state(api, "hasty", request.run_id, "promote") in DONE, PATIENCE, "its end", every=1)
    assert state(api, "hasty", request.run_id, "promote") == "skipped"
    answer = Ledger(office.place.storage, "hasty").answer(request.id)
    assert (answer.answer, answer.by) == ("timeout", "")
    assert office.champion("hasty") is None
    assert office.tags("hasty", request.version)["nightshift.approval"] == "timeout"
