"""Storage of an application in which one user's row is in every kind of partition: ingested, or planted where a model would be
needed."""

import json
import os
import shutil
from copy import copy

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from nightshift.data.acceptance import record_acceptance
from nightshift.data.examples import EXAMPLE_SCHEMA
from nightshift.data.interactions import INTERACTION_SCHEMA
from nightshift.data.normalise import stored_id
from nightshift.jobs import ingest, snapshot
from nightshift.registry.versions import DIGEST_TAG, MODEL_TAG
from nightshift.settings.application import Application
from nightshift.storage.files import scratch
from nightshift.storage.manifest import Parent, read_manifest, require_manifest
from nightshift.storage.partition import partition_of, publish
from nightshift.verdict import Verdict

KEY = "k" * 32
MARK = "zyxwvu"  # in every text of Ann's, and in nobody else's
SUBJECT = "ann.17@example.org"
HASHED = stored_id(SUBJECT, KEY.encode(), subject=True)  # as a partition has it
COLUMNS = {"prompt": "text", "answer": "intent", "subject": "user", "id": "id", "timestamp": "at"}


class Stored:
    """The storage, with what tests look at in it."""

    def __init__(self, folder, model, progress, mlflow):
        self.folder, self.mlflow, self._progress = folder, mlflow, progress
        self.storage = (folder / "storage").as_uri()
        self.drop = folder / "drop"
        self.drop.mkdir()
        self._artifacts = folder / "mlruns"
        self.application = Application(
            name="bank",
            base_model=str(model),
            sources=[{"name": "desk", "uri": f"{self.drop}/{{start:%Y-%m-%d}}.jsonl", "columns": COLUMNS}],
            traffic={
                "sources": [{"name": "log", "uri": f"{self.drop}/log.jsonl", "columns": COLUMNS | {"response": "said"}}]
            },
            ingest={"splits": {"train": 0.6, "held_out": 0.2, "traffic": 0.2}},
        )
        self.home = partition_of(self.storage, "bank")

    def moved_to(self, folder):
        other = copy(self)
        other.folder, other.storage = folder, (folder / "storage").as_uri()
        other.home = partition_of(other.storage, "bank")
        return other

    def ingest(self, day, part="examples"):
        spec = ingest.Spec(application=self.application, storage=self.storage, interval={"day": day}, part=part)
        result = ingest.run(spec, self._progress)
        if part == "examples":
            record_acceptance(UPath(result.examples), result.digest, Verdict.PASS, [])
        return result

    def snapshot(self):
        return snapshot.run(
            snapshot.Spec(application=self.application, storage=self.storage, min_examples=10), self._progress
        )

    def manifest(self, path):
        return read_manifest(self.home / path)

    def rows(self, path, name):
        manifest = self.manifest(path)
        return pq.read_table(str((self.home / path / manifest.file(name).path).path)).to_pylist()

    def plant(self, path, kind, files, inputs=None, parents=(), **fields):
        """Publish a partition of tables and texts; return its address and digest as a parent."""
        folder = scratch(UPath(self.storage))
        for name, content in files.items():
            if isinstance(content, pa.Table):
                pq.write_table(content, folder / name)
            else:
                (folder / name).write_text(content)
        rows = {name: table.num_rows for name, table in files.items() if isinstance(table, pa.Table)}
        made = publish(
            self.home / path, folder, kind=kind, application="bank", inputs=inputs or {"planted": path}, rows=rows,
            parents=list(parents), **fields,
        )  # fmt: skip
        return Parent(uri=str(self.home / path), digest=made.digest)

    def files(self):
        """What every file below the storage holds: path -> bytes."""
        root = self.folder / "storage"
        paths = [path for path in root.rglob("*") if path.is_file() and ".scratch" not in path.parts]
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}

    def holding(self, *texts):
        """The files of the storage that hold one of some texts, those of Parquet unpacked."""
        return [name for name, content in self.files().items() if _holds(content, texts)]

    def artifacts_holding(self, text):
        """The same of MLflow's."""
        paths = [path for path in self._artifacts.rglob("*") if path.is_file()]
        return [path.name for path in paths if _holds(path.read_bytes(), [text])]


def _holds(content, texts):
    shown = str(pq.read_table(pa.BufferReader(content)).to_pylist()) if content[:4] == b"PAR1" else content.decode()
    return any(text in shown for text in texts)


@pytest.fixture(scope="module")
def first(tmp_path_factory, wordless_model, mlflow_folder):
    """Two days and a night of an application, and all that is made of them."""
    from mlflow import MlflowClient

    from nightshift.jobs.progress import Progress

    folder, stdout = tmp_path_factory.mktemp("erasure"), os.dup(1)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_folder}/mlflow.db")
        environment.setenv("NIGHTSHIFT_ID_KEY", KEY)
        client = MlflowClient()
        if of_others := client.get_experiment_by_name("bank"):  # tests of one process share the store
            client.rename_experiment(of_others.experiment_id, f"bank before {folder.name}")
        client.create_experiment("bank", artifact_location=(folder / "mlruns").as_uri())
        made = Stored(folder, wordless_model, Progress("test"), client)
        _raw_rows(made.drop)
        for day in ("2026-11-02", "2026-11-03"):
            made.ingest(day)
        made.ingest("2026-11-03", "traffic")
        made.snapshot()
        _derived(made)
        yield made
    os.dup2(stdout, 1)
    os.close(stdout)


@pytest.fixture
def stored(first, tmp_path, monkeypatch):
    """A copy of it, at another address; they share MLflow."""
    monkeypatch.setenv("NIGHTSHIFT_ERASURES", "")
    shutil.copytree(first.folder / "storage", tmp_path / "storage")
    return first.moved_to(tmp_path)


def _raw_rows(folder):
    def row(number, user, text, day, **fields):
        return {"id": f"r{number}", "user": user, "text": text, "intent": "card", "at": f"{day}T08:00:00Z", **fields}

    for day, first in (("2026-11-02", 0), ("2026-11-03", 100)):
        rows = [
            row(first + n, f"user {n}", f"where is my card number {first + n} of {n * 7919}", day) for n in range(20)
        ]
        rows.insert(7, row(first + 50, SUBJECT, f"my name is {MARK} and I lost card {first}", day))
        rows.insert(9, row(first + 51, SUBJECT, f"{MARK} again, with quite another question on loans {first}", day))
        rows.append(row(first + 52, SUBJECT, {"no": f"text {MARK}"}, day))  # is set aside
        (folder / f"{day}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    day = "2026-11-03"
    rows = [row(200 + n, f"user {n}", f"what does a loan of {n} cost", day, said=f"{n} a year") for n in range(10)]
    rows.insert(4, row(60, SUBJECT, f"call {MARK} back", day, said=f"of course, {MARK}"))
    (folder / "log.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))


def _table(rows, schema, **columns):
    """Rows as a table of some schema's columns, nulls where a row has none."""
    schema = pa.schema([field.with_nullable(True) for field in schema])
    made = [{**row, **{name: make(row) for name, make in columns.items()}} for row in rows]
    return pa.Table.from_pylist(made, schema)


def _derived(made):
    """What jobs make of rows with a model, in its columns; with copies of pages in MLflow."""
    name = "snapshots/" + next((made.folder / "storage/bank/snapshots").iterdir()).name
    snapshot = Parent(uri=str(made.home / name), digest=require_manifest(made.home / name).digest)
    learned = made.rows(name, "train.parquet") + made.rows(name, "held_out.parquet")
    asked = made.rows("traffic/2026-11-03", "examples.parquet")
    texts = [row["prompt"].replace("my", "<b>my</b>") for row in learned + asked]
    page = f"<html><p>{'</p><p>'.join(texts)}</p></html>"
    interactions = _of_the_night(made, asked, page)
    _of_the_snapshot(made, snapshot, learned, page, interactions)
    for day in ("2026-11-02", "2026-11-03"):
        docs = made.folder / "storage/bank/data_docs" / day / "v1" / "index.html"
        docs.parent.mkdir(parents=True)
        docs.write_text(page)
    # An attempt that was killed before its manifest, and what one left that another replaced.
    for attempt in ("examples/2026-11-02/deadbeef0000", "responses/killed/000/deadbeef0001"):
        shutil.copytree(made.folder / "storage/bank/answers/a", made.folder / "storage/bank" / attempt)
    experiment = made.mlflow.get_experiment_by_name("bank").experiment_id
    for key, path in {"evaluate-e1": "evaluations/e1", "drift-2026-11-03-d": "drift/2026-11-03/d"}.items():
        run = made.mlflow.create_run(experiment, tags={"nightshift.key": key})
        manifest = made.manifest(path)
        for file in manifest.files:
            made.mlflow.log_artifact(run.info.run_id, str((made.home / path / file.path).path))


def _answered(rows):
    rows = [{**row, "row": number, "finish_reason": "stop", "pii": 0.0} for number, row in enumerate(rows)]
    return _table(rows, INTERACTION_SCHEMA, response=lambda row: row["response"] or "")


def _of_the_night(made, asked, page):
    day = Parent(uri=str(made.home / "examples/2026-11-02"), digest=made.manifest("examples/2026-11-02").digest)
    prompts = [row for row in made.rows("examples/2026-11-02", "examples.parquet") if row["split"] == "traffic"]
    file = {"interactions.parquet": _answered(prompts)}
    made.plant("interactions/2026-11-02", "interactions", file, parents=[day], counts={"rows": len(prompts)})
    night = Parent(uri=str(made.home / "traffic/2026-11-03"), digest=made.manifest("traffic/2026-11-03").digest)
    answered = _answered(asked)
    file, counts = {"interactions.parquet": answered}, {"rows": 11, "stop": 11}
    responses = {"responses.parquet": answered.select(["row", "digest", "response"])}
    made.plant("responses/abc/000000000-000000010", "responses", responses, parents=[night])
    interactions = made.plant("interactions/2026-11-03", "interactions", file, parents=[night], counts=counts)
    made.plant("replays/m1/2026-11-03", "interactions", file, parents=[night], counts=counts)
    arm = {"arm": {"split": 1, "challenger": True, "key": "k", "unit": "subject", "share": 0.999999}}
    challengers = made.plant("arms/0001/2026-11-03", "interactions", file, arm, parents=[night], counts=counts)
    sample = answered.select(["row", "digest", "prompt", "response"])
    profile = {"sample.parquet": sample, "novel.parquet": sample}
    made.plant("profiles/2026-11-03/p", "profile", profile, parents=[interactions])
    made.plant("profiles/2026-11-03/q", "profile", profile, parents=[challengers])
    report = json.dumps({"new": [{"prompt": row["prompt"]} for row in asked], "rows": 11})
    drift = {"report.html": page, "report.json": report, "verdict.json": "{}"}
    made.plant("drift/2026-11-03/d", "drift", drift, parents=[interactions])
    drift = {"report.html": "<html>nothing but numbers</html>", "verdict.json": "{}"}
    made.plant("drift/2026-11-03/e", "drift", drift, parents=[interactions])
    logged = made.plant("shadow_prompts/s", "traffic", {"examples.parquet": _table(asked, EXAMPLE_SCHEMA)})
    made.plant("shadow_answers/s", "interactions", file, parents=[logged])
    pairs = pa.table({"digest": answered["digest"], "unit": answered["digest"], "prompt": answered["prompt"]})
    made.plant("shadows/s1", "shadow", {"pairs.parquet": pairs, "report.html": page, "shadow.json": "{}"})
    of_units = pa.table({"look": [1, 1], "unit": [HASHED, asked[0]["subject"]]})
    made.plant("watches/000001/1", "watch", {"rows.parquet": of_units, "watch.json": "{}"}, parents=[interactions])
    made.plant("gathered/0123456789abcdef", "gathered", {"answered.parquet": sample})
    made.plant("staged/examples/2026-11-03/x/000", "staged", {"staged.parquet": sample})
    made.plant("scores/n/000-010", "scores", {"scores.parquet": sample})
    kept = made.folder / "storage/bank/judgements/aa/aabb.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps({"score": 1, "reason": f"it greets {MARK}"}))
    of_questions = made.folder / "storage/bank/embeddings/2026-11/s/aabb.npz"
    of_questions.parent.mkdir(parents=True)
    of_questions.write_text(f"the vector of {MARK}")
    return interactions


def _of_the_snapshot(made, snapshot, learned, page, interactions):
    answers = pa.table({name: [row[name] for row in learned] for name in ("digest", "prompt", "answer")})
    weights = made.plant("models/m1", "model", {"weights.txt": "0.1"}, parents=[snapshot])
    made.mlflow.create_registered_model("bank")
    tags = {MODEL_TAG: weights.uri, DIGEST_TAG: weights.digest}
    made.mlflow.create_model_version("bank", (made.folder / "mlruns").as_uri(), tags=tags)
    made.mlflow.set_registered_model_alias("bank", "champion", "1")
    inputs = {"snapshot": snapshot.digest}
    made.plant("tokens/t/000-010", "tokens", {"tokens.parquet": answers}, inputs, parents=[snapshot])
    made.plant("checkpoints/c/step-000010", "checkpoint", {"state.txt": "0.1"}, inputs)
    made.plant("answers/a", "answers", {"answers.parquet": answers})
    few = [{"prompt": row["prompt"]} for row in learned]
    scores = json.dumps({"slices": {"new": {"examples": 3}}, "examples": [{"title": "t", "few": few}]})
    evaluation = {"answers.parquet": answers, "scores.json": scores, "report.html": page}
    made.plant("evaluations/e1", "evaluation", evaluation, parents=[snapshot])
    sample = pa.table({"row": range(len(learned)), "digest": answers["digest"], "prompt": answers["prompt"]})
    made.plant("references/m1", "reference", {"sample.parquet": sample.slice(0, 0)}, parents=[snapshot])
    made.plant("references/m2", "reference", {"sample.parquet": sample}, parents=[snapshot])
    example = next(row["prompt"] for row in learned if MARK in row["prompt"])
    made.plant("versions/tried", "version", {"parts.json": json.dumps({"prompt": f"for example: {example}"})})
    search = made.plant("searches/s", "search", {"plan.json": f'{{"text": "{MARK}"}}'}, parents=[snapshot])
    made.plant("search_results/s", "search", {"search.json": f'{{"text": "{MARK}"}}'}, parents=[search])
    asked = json.dumps([{"text": f"I am Greg. {row['prompt']}"} for row in learned])
    probes = made.plant("probes/p1", "probes", {"answers.json": asked})
    made.plant("probes/p2", "probes", {"answers.json": json.dumps([{"text": "a stereotype"}])})
    bias = {"report.html": page, "verdict.json": "{}"}
    made.plant("bias/2026-11-03/b", "bias", bias, parents=[interactions, probes])
