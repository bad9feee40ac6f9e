"""The whole loop without Airflow, as jobs and what the ledger decides: a drift, one retraining, its release, its replay."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from release_tasks import Releases
from upath import UPath

import nightshift
from nightshift.jobs import (
    drift,
    evaluate,
    generate,
    ingest,
    reference,
    register,
    replay,
    score,
    shadow,
    snapshot,
    train,
    validate,
)
from nightshift.ledger import orders
from nightshift.ledger.history import published
from nightshift.ledger.records import Outcome
from nightshift.ledger.store import Ledger
from nightshift.registry.models import version_of, with_alias
from nightshift.registry.versions import CHAMPION
from nightshift.settings.application import Application
from nightshift.storage.manifest import require_manifest
from nightshift.verdict import Verdict

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SAMPLES = Path(nightshift.__file__).parent / "samples" / "banking77"


class Loop:
    """One application and its jobs, each run with what the jobs before answered."""

    def __init__(self, app, storage, progress):
        self.application, self.storage, self._progress = app, storage, progress
        self.releases = Releases(self)

    def run(self, job, **arguments):
        """Run a job, which leaves the ledger and the audit log as they are."""
        before = self.written_by_tasks()
        result = job.run(job.Spec(application=self.application, storage=self.storage, **arguments), self._progress)
        assert self.written_by_tasks() == before, f"{job.__name__} wrote what only tasks in the worker write"
        return result

    def written_by_tasks(self):
        """When each record of the ledger and file of the audit log was written."""
        root = Path(UPath(self.storage).path)
        found = (path for pattern in ("audit/**/*", "*/ledger/**/*") for path in root.glob(pattern))
        return {path: path.stat().st_mtime_ns for path in found}

    def ingested(self, day):
        start = datetime.fromisoformat(day).replace(tzinfo=UTC)
        made = self.run(ingest, interval={"start": start, "end": start + timedelta(days=1)})
        self.run(validate, examples=made.examples, digest=made.digest)
        return {"prompts": made.examples, "digest": made.digest}

    def answered(self, day):
        prompts = self.ingested(day)
        said = self.run(generate, **prompts)
        return self.run(score, **prompts, responses=said.responses, model=said.model, model_digest=said.model_digest)

    def decided(self):
        """The job `drift`, and what the ledger decides after the newest night that it judged."""
        judged = self.run(drift)
        return judged, orders.evaluate(
            self.application,
            Ledger(self.storage, self.application.name),
            published(judged.nights[-1].report),
            datetime.now(UTC),
        )

    def finetuned(self, run_id, wanted=False):
        """The order that a run trains for, why or why not, and the version that it registers."""
        ledger = Ledger(self.storage, self.application.name)
        order, told = orders.claim(ledger, "finetune", run_id, datetime.now(UTC))
        if order is None and not wanted:
            return None, told, None
        number = order.number if order else None
        made = self.run(snapshot)
        rows = {"snapshot": made.snapshot, "digest": made.digest}
        trained = self.run(
            train,
            **rows,
            base_model=self.application.base_model,
            training=self.application.training,
            order=number,
            reason=told,
        )
        model = {"model": trained.version, "model_digest": trained.version_digest}
        judged = self.run(evaluate, **rows, **model, base_model=self.application.base_model)
        evaluation = {"evaluation": judged.evaluation, "evaluation_digest": judged.digest}
        self.run(reference, **rows, **model, **evaluation)
        version = self.run(register, **model, **evaluation, order=number)
        if order:
            ended = {"model": trained.model, "evaluation": judged.evaluation, "verdict": version.verdict}
            orders.close(
                ledger,
                Outcome(
                    number=order.number, result="registered", explanation="as it went", run_id=run_id,
                    model_version=version.version, ended=datetime.now(UTC), **ended,
                ),
            )  # fmt: skip
        return number, told, version

    def digest_of(self, version):
        return version_of(self.application.name, version).digest

    def released(self):
        moved = self.releases.run()[1]
        if moved["version"] is None:  # so small a model may well fail its gate; a person releases a doubtful one
            moved = self.releases.run(reason="the test goes on")[1]
        return moved


@pytest.fixture
def loop(storage, progress, tiny_models, mlflow_server, tmp_path, monkeypatch):  # noqa: PLR0917
    (tmp_path / "apps").mkdir()
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", storage)
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", mlflow_server)
    app = Application(
        name="loop",
        base_model=tiny_models.random,
        start="2026-11-02",
        sources=[
            {
                "uri": f"{SAMPLES}/{{start:%Y-%m-%d}}.csv",
                "columns": {"prompt": "text", "answer": "intent", "id": "message_id"},
            }
        ],
        ingest={"splits": {"train": 0.5, "traffic": 0.35, "held_out": 0.15}},
        training={"epochs": 2, "rows_per_step": 8, "rows_per_batch": 8, "learning_rate": 0.006},
        evaluation={"max_examples": 120, "max_new_tokens": 6},
        inference={"max_new_tokens": 6},
        gate={"min_score": 0, "min_gain_over_base": 0, "max_loss_to_champion": 1, "metric": "chrf"},
        shadow={"min_prompts": 100, "prompts": 100, "margin": 1},
        retraining={"nights": 1, "of_nights": 1, "min_new_examples": 10},
    )
    return Loop(app, storage, progress)


def test_a_drift_orders_one_retraining_whose_model_is_released_and_answers_the_night_again(loop):
    for day in ("2026-11-02", "2026-11-03"):
        loop.ingested(day)
    order, _, first = loop.finetuned("by hand", wanted=True)
    assert (order, first.version) == (None, "1")
    assert loop.released()["version"] == "1"

    quiet = loop.answered("2026-11-04")
    assert quiet.rows > 300
    assert loop.decided()[1].order is None
    assert loop.finetuned("woken for nothing") == (None, "no retraining is ordered", None)

    drifted = loop.answered("2026-11-09")
    judged, decision = loop.decided()
    assert (judged.verdict, decision.order) == (Verdict.FAIL, 1)
    assert loop.run(drift).nights == []
    order, reason, second = loop.finetuned("ordered")
    assert (order, reason, second.version) == (1, decision.reason, "2")
    assert loop.finetuned("ordered twice")[2] is None
    assert Ledger(loop.storage, "loop").outcome(1).result == "registered"

    models = {"model_digest": loop.digest_of("2"), "champion_digest": loop.digest_of("1")}
    held = loop.run(shadow, **models)
    assert (held.prompts, held.verdict) == (100, Verdict.PASS)
    moved = loop.released()
    assert moved["version"] == "2"
    assert with_alias("loop", CHAMPION).version == "2"
    again = loop.run(replay, model_digest=moved["model_digest"])
    assert (again.order, again.night) == (1, "2026-11-09")
    assert again.parts["everything"]["rows"] > 200
    assert again.drift in {Verdict.PASS, Verdict.WARN, Verdict.FAIL}
    assert UPath(again.report).exists()
    assert loop.run(replay, model_digest=moved["model_digest"]) == again
    # What the earlier champion said that night stays what it was.
    assert require_manifest(UPath(drifted.interactions)).digest == drifted.digest
