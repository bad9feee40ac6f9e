"""A released candidate that answers a share of the traffic: its tasks, called as Airflow calls them, and what its users got."""

import shutil
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.sdk.exceptions import AirflowSkipException
from candidates import example
from mlflow import MlflowClient
from release_tasks import FORM
from retraining_tasks import context
from upath import UPath

from nightshift.data.examples import EXAMPLE_SCHEMA, EXAMPLES, RowWriter
from nightshift.data.interactions import INTERACTION_SCHEMA, INTERACTIONS, SCORES
from nightshift.inference.prompts import Prompts
from nightshift.jobs import arms
from nightshift.ledger.records import GateRecord, Release
from nightshift.ledger.store import Ledger
from nightshift.monitoring.published_intervals import arms_partition
from nightshift.orchestration import promote, ramp, release, rollback
from nightshift.orchestration.contest import ReleaseDecision
from nightshift.registry.versions import CANDIDATE, CHAMPION, DIGEST_TAG, RELEASE_TAG
from nightshift.settings.applications import load_application
from nightshift.settings.interval import Interval
from nightshift.settings.split import Arm
from nightshift.storage.files import scratch
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import partition_of, publish

OLD, NEW = "a" * 64, "b" * 64
FILE = """\
sources:
  - uri: /data/*.csv
    columns: {prompt: text}
retraining: {nights: 1, of_nights: 1, min_new_examples: 0, cooldown_days: 0}
"""
SPLIT = "split: {shares: [0.3, 0.5], margin: 0.2, min_units: 20, intervals: 3, level: 0.2}\n"
FIRST = datetime(2026, 11, 2, tzinfo=UTC)
USERS = 200


class SplitRun:
    """An application whose candidate, version 2, was released; its intervals are answered one after the other."""

    def __init__(self, storage, project, client):
        self.storage, self.file, self.client = storage, project / "apps" / "app.yaml", client
        self.write(SPLIT)
        client.create_registered_model("app")
        for digest in (OLD, NEW):
            client.create_model_version("app", "s3://models/app", tags={DIGEST_TAG: digest})
        client.set_model_version_tag("app", "1", RELEASE_TAG, "1")
        client.set_registered_model_alias("app", CANDIDATE, "2")
        self.champion = "1"
        self.decided()
        self.days = 0
        self.planted = {}  # values of further columns by the model that answers

    def write(self, split):
        self.file.write_text(FILE + split)

    def decided(self):
        """As after the first release, and the decision about the second."""
        ledger = self.ledger
        ledger.create(Release(number=1, ahead=True, model_digest=OLD, version="1", released=FIRST))
        ledger.create(
            GateRecord(
                id="gate", application="app", version="2", model_digest=NEW, champion_digest=OLD, evaluation="", policy="",
                evaluation_digest="", verdict="PASS", reasons=[], numbers={}, released=True, by="gate", after=1, decided=FIRST,
            )
        )  # fmt: skip

    @property
    def ledger(self):
        return Ledger(self.storage, "app")

    @property
    def champion(self):
        """The version that MLflow names the champion; it can be moved by hand."""
        return str(self.client.get_model_version_by_alias("app", CHAMPION).version)

    @champion.setter
    def champion(self, version):
        self.client.set_registered_model_alias("app", CHAMPION, version)

    def tag(self, key):
        """A tag of the challenger in MLflow."""
        return self.client.get_model_version("app", "2").tags[key]

    def promote(self):
        """The task `promote` of the release."""
        about = {"version": "2", "model_digest": NEW, "champion_digest": OLD, "released": True}
        return called(promote.promote, {"verdict": "PASS", "reasons": [], **about})

    def decide(self):
        """The task `release` of the next run."""
        return ReleaseDecision(**called(release.release, params=FORM))

    def release(self):
        """Both tasks of the next run of the release."""
        return called(promote.promote, called(release.release, params=FORM))

    def roll_back(self, run_id="back", version=None):
        given = {"params": {"reason": "users complain", "version": version}, "user": "olga", "run_id": run_id}
        return called(promote.promote, called(rollback.rollback, **given), run_id=run_id)

    def prompts(self, day):
        """What users ask on a day: each of them once or twice."""
        interval = Interval(start=FIRST + timedelta(days=day), end=FIRST + timedelta(days=day + 1))
        at = partition_of(self.storage, "app", "traffic", interval.key)
        folder = scratch(UPath(self.storage))
        asked = [(user, again) for user in range(USERS) for again in range(1 + user % 5 // 4)]
        rows = [example(f"where is card {n} of {user}", split="traffic", subject=f"user {user}") for user, n in asked]
        with RowWriter(folder / EXAMPLES, EXAMPLE_SCHEMA) as writer:
            writer.write(rows)
        made = publish(
            at, folder, kind="traffic", application="app", inputs={"day": day}, interval=interval,
            rows={EXAMPLES: len(rows)},
        )  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)
        return {"examples": str(at), "digest": made.digest}

    def answer(self, prompts, assigned, right):
        """Publish what one or both versions answered; a version is right as often as `right` says."""
        key = prompts["examples"].rpartition("/")[2]
        sides = ["champion", "challenger"] if assigned else ["champion"]
        for side in sides:
            rows = assigned[f"{side}_rows"] if assigned else None
            place = partition_of(self.storage, "app", "interactions", key)
            if side == "challenger":
                place = arms_partition(self.storage, "app", rows["split"]) / key
            self._publish(place, prompts, rows, OLD if side == "champion" else NEW, right[side])

    def _publish(self, place, prompts, rows, model, right):
        at, folder = UPath(prompts["examples"]), scratch(UPath(self.storage))
        manifest = require_manifest(at)
        asked = Prompts(at, manifest, folder / "read", Arm(**rows) if rows else None)
        table = asked.read(0, asked.rows - 1, ["digest", "subject"])
        good = [float(int(digest[:8], 16) / 16**8 < right) for digest in table["digest"].to_pylist()]
        columns = {"exact_match": good, "judge": [None] * len(good), "valid": [1.0] * len(good)}
        columns |= {name: [values[model]] * len(good) for name, values in self.planted.items()}
        kinds = pa.schema(
            [INTERACTION_SCHEMA.field(name) if name in SCORES else pa.field(name, pa.float32()) for name in columns]
        )
        (folder / "out").mkdir()
        pq.write_table(pa.table(columns, schema=kinds), folder / "out" / INTERACTIONS)
        publish(
            place, folder / "out", kind="interactions", application="app", interval=manifest.interval,
            inputs={"prompts": manifest.digest, "model": model, **({"arm": rows} if rows else {})},
            rows={INTERACTIONS: asked.rows}, counts={"rows": asked.rows}, facts={"model_digest": model},
            parents=[{"uri": str(at), "digest": manifest.digest}],
        )  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)

    def interval(self, progress, day=None, champion=0.8, challenger=0.8):
        """A run of batch_inference: what was assigned, and what `ramp` said."""
        day = self.days if day is None else day
        prompts = self.prompts(day)
        assigned = called(ramp.assign, prompts)
        self.answer(prompts, assigned, {"champion": champion, "challenger": challenger})
        said = None
        if assigned:
            self.compare(progress)
            said = called(ramp.ramp, assigned)
        self.days = max(self.days, day + 1)
        return assigned, said

    def compare(self, progress):
        """The job `arms`."""
        return arms.run(arms.Spec(application=load_application("app"), storage=self.storage), progress)

    def told_of(self, model):
        """The users that a model answered, day by day."""
        folders = [partition_of(self.storage, "app", "interactions"), arms_partition(self.storage, "app", 1)]
        found = {}
        for partition in (one for folder in folders if folder.exists() for one in folder.iterdir()):
            manifest = require_manifest(partition)
            if manifest.facts["model_digest"] == model:
                at, arm = UPath(manifest.parents[0].uri), manifest.inputs.get("arm")
                prompts = Prompts(at, require_manifest(at), scratch(at), Arm(**arm) if arm else None)
                found[partition.name] = {*prompts.read(0, prompts.rows - 1, ["subject"])["subject"].to_pylist()}
        return [found[key] for key in sorted(found)]


def called(task, *arguments, params=None, user=None, run_id="run"):
    """What a task answers; of one that is skipped, what it said."""
    given = context(run_id, params=params or {}, user=user)
    try:
        return task.function("app", *arguments, **given)
    except AirflowSkipException as skipped:
        return given["pushed"].get("return_value", {"skipped": str(skipped)})


@pytest.fixture
def split_run(storage, shown, tmp_path):
    client = MlflowClient(shown)
    yield SplitRun(storage, tmp_path, client)
    client.delete_registered_model("app")
