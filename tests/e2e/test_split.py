"""A prompt that a search found takes over from the champion share by share, in the real scheduler."""

import csv
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient
from patience import wait_for
from upath import UPath

import nightshift
from nightshift.inference.prompts import Prompts
from nightshift.jobs import evaluate, generate, ingest, register, score, snapshot, train, validate
from nightshift.jobs.progress import Progress
from nightshift.ledger.records import Release
from nightshift.ledger.store import Ledger
from nightshift.monitoring.published_intervals import arms_partition
from nightshift.registry.versions import CHAMPION, RELEASE_TAG, SPLIT_TAG
from nightshift.settings.applications import load_application
from nightshift.settings.prompt_file import read_prompt
from nightshift.settings.split import Arm
from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.place import this_place
from nightshift.storage.files import scratch
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import partition_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SAMPLES = Path(nightshift.__file__).parent / "samples" / "banking77"
DAYS = ("2026-11-02", "2026-11-03", "2026-11-04")
USERS, MESSAGES = 300, 600
DONE = {"success", "failed", "skipped", "upstream_failed"}
PATIENCE = 300  # seconds that a small machine may take for one run


@pytest.fixture(scope="module")
def place(running_stack):
    """The stack, in which version 1 of `ramped` is the champion and has answered the first of three days."""
    place, stdout = this_place(running_stack), os.dup(1)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", place.mlflow_url)
        environment.setenv("NIGHTSHIFT_PROJECT", running_stack["NIGHTSHIFT_PROJECT"])
        environment.setenv("NIGHTSHIFT_ID_KEY", "a key of the test's own")
        ask(Path(running_stack["NIGHTSHIFT_PROJECT"]) / "asked")
        crown(place.storage)
        yield place
    os.dup2(stdout, 1)  # jobs take it for their progress
    os.close(stdout)


def ask(folder):
    """Messages of the sample as those of users who come again."""
    folder.mkdir()
    for day in DAYS:
        with (SAMPLES / f"{day}.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))[:MESSAGES]
        with (folder / f"{day}.csv").open("w", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*rows[0], "user"])
            writer.writeheader()
            writer.writerows(row | {"user": f"user {n % USERS}"} for n, row in enumerate(rows))


def crown(storage):
    """Ingest all days, release the endpoint with the plain prompt, and have it answer the first day."""
    app, progress = load_application("ramped"), Progress("crown")

    def run(job, **arguments):
        return job.run(job.Spec(application=app, storage=storage, **arguments), progress)

    nights = []
    for day in DAYS:
        start = datetime.fromisoformat(day).replace(tzinfo=UTC)
        made = run(ingest, interval={"start": start, "end": start + timedelta(days=1)})
        run(validate, examples=made.examples, digest=made.digest)
        nights.append({"prompts": made.examples, "digest": made.digest})
    made = run(snapshot)
    rows = {"snapshot": made.snapshot, "digest": made.digest}
    trained = run(train, **rows, base_model=app.base_model, training=app.training)
    model = {"model": trained.version, "model_digest": trained.version_digest}
    judged = run(evaluate, **rows, **model, base_model=app.base_model)
    version = run(register, **model, evaluation=judged.evaluation, evaluation_digest=judged.digest).version
    Ledger(storage, app.name).create(
        Release(
            number=1, ahead=True, **model, version=version, evaluation=judged.evaluation, released=datetime.now(UTC)
        )
    )
    models = MlflowClient()
    models.set_model_version_tag(app.name, version, RELEASE_TAG, "1")
    models.set_registered_model_alias(app.name, CHAMPION, version)
    said = run(generate, **nights[0])
    run(score, **nights[0], responses=said.responses, model=said.model, model_digest=said.model_digest)


@pytest.fixture(scope="module")
def api(place):
    """Airflow's REST API, with the DAGs of the application unpaused."""
    with AirflowApi(place) as api:
        for dag in ("search", "release", "batch_inference"):
            wait_for(lambda dag=dag: api.has_dag(f"ramped_{dag}"), PATIENCE, f"ramped_{dag}", every=0.5)
            api.unpause(f"ramped_{dag}")
        yield api


@pytest.fixture(scope="module")
def ledger(place):
    return Ledger(place.storage, "ramped")


def states(api, dag, run):
    """The states of the tasks of a run that has ended."""

    def ended():
        return next((one for one in api.runs(dag) if one["dag_run_id"] == run and one["state"] in DONE), None)

    wait_for(ended, PATIENCE, f"{dag} {run}", every=0.5)
    return {task["task_id"]: task["state"] for task in api.tasks(dag, run)}


def test_a_search_finds_the_better_prompt_and_the_shadow_lets_it_begin_a_split(
    api, ledger, place, nightshift, running_stack
):
    api.trigger("ramped_search", "weekly", {})
    assert set(states(api, "ramped_search", "weekly").values()) == {"success"}
    result = api.result("ramped_search", "weekly", "search_result")
    assert result["reasons"][0].startswith(
        "prompt prompts/exact.yaml: gain in exact match over today on 60 rows that no rung used"
    )
    found = MlflowClient(place.mlflow_url).get_model_version("ramped", "2")
    assert found.tags["nightshift.search"] == result["run_url"]
    assert f"[prompt.yaml]({result['run_url']}/artifacts/prompt.yaml)" in found.description
    assert "| as today |" in found.description
    shown = nightshift("prompts show 2 --application ramped", running_stack)
    (place.project / "prompts" / "taken.yaml").write_text(shown.stdout)
    taken, listed = (read_prompt(f"prompts/{name}.yaml", place.project) for name in ("taken", "exact"))
    assert taken == listed
    (split,) = wait_for(ledger.splits, PATIENCE, "the split", every=0.5)
    assert (split.champion, split.version) == ("1", "2")
    assert ledger.gate_records()[-1].verdict == "PASS"
    assert MlflowClient(place.mlflow_url).get_model_version_by_alias("ramped", CHAMPION).version == "1"


def told_of(storage, day, challenger):
    """The users whom a version answered on a day."""
    folder = arms_partition(storage, "ramped", 1) if challenger else partition_of(storage, "ramped", "interactions")
    manifest = require_manifest(folder / day)
    at, arm = UPath(manifest.parents[0].uri), Arm(**manifest.inputs["arm"])
    prompts = Prompts(at, require_manifest(at), scratch(at), arm)
    return {*prompts.read(0, prompts.rows - 1, ["subject"])["subject"].to_pylist()}


def test_both_versions_answer_until_the_evidence_releases_the_new_one(api, ledger, place):
    models = MlflowClient(place.mlflow_url)
    for day, action in zip(DAYS[1:], ("step", "pass"), strict=True):
        api.trigger("ramped_batch_inference", day, {"day": day})
        assert states(api, "ramped_batch_inference", day)["ramp"] == ("success" if action == "pass" else "skipped")
        look = ledger.looks(1)[-1]
        assert (look.interval, look.action) == (day, action), look.reason
        assert "difference in cost headroom, low" in look.numbers
    wait_for(lambda: len(ledger.releases()) == 2, PATIENCE, "the release", every=0.5)
    wait_for(
        lambda: models.get_model_version_by_alias("ramped", CHAMPION).version == "2", PATIENCE, "the alias", every=0.5
    )

    new, old = ([told_of(place.storage, day, arm) for day in DAYS[1:]] for arm in (True, False))
    assert not new[0] & (old[0] | old[1]), "whom the challenger answered at 30 % it answers at 60 %"
    assert not new[1] & old[1]
    assert [release.version for release in ledger.releases()] == ["1", "2"]
    assert ledger.split_end(1).result == "passed"

    def share():  # is shown after the alias has moved
        return json.loads(models.get_model_version("ramped", "2").tags[SPLIT_TAG])["share"]

    wait_for(lambda: share() == 1.0, PATIENCE, "the share of who has become the champion", every=0.5)
