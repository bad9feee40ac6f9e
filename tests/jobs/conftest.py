"""What the tests of jobs share: storage, a snapshot to train on, and an application whose champion answers a night."""

import candidates
import forks
import pytest
from answered_intervals import HOSTILE
from upath import UPath

from nightshift.data.examples import digest_of_messages
from nightshift.settings.application import Application
from nightshift.settings.policies import Inference
from nightshift.storage.files import scratch
from nightshift.storage.partition import partition_of, publish

judged, progress, tiny_models = candidates.judged, candidates.progress, candidates.tiny_models
publish_day, publish_model = candidates.publish_day, candidates.publish_model


@pytest.fixture
def storage(request, tmp_path):
    """URI of empty storage: a folder, or with the parameter `s3` a place in a bucket."""
    if getattr(request, "param", None) == "s3":
        return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
    return (tmp_path / "storage").as_uri()


INTENTS = ["card arrival", "lost phone", "cash fee", "top up failed"]


@pytest.fixture
def snapshot(storage):
    """A published snapshot of 40 training and 12 held-out examples."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def rows(first, count):
        for number in range(first, first + count):
            intent = INTENTS[number % len(INTENTS)]
            turns = [
                {"role": "user", "content": f"{'please ' * (number % 5)}help {number} with {intent}"},
                {"role": "assistant", "content": intent},
            ]
            yield {"digest": digest_of_messages(turns), "messages": turns}

    folder = scratch(UPath(storage))
    pq.write_table(pa.Table.from_pylist(list(rows(0, 40))), folder / "train.parquet")
    pq.write_table(pa.Table.from_pylist(list(rows(1000, 12))), folder / "held_out.parquet")
    partition = partition_of(storage, "app", "snapshots", "planted")
    return partition, publish(partition, folder, kind="snapshot", application="app", inputs={"planted": 1})


@pytest.fixture(scope="session")
def forked_jobs(tmp_path_factory):
    """Lets the jobs that a test starts be forks of one process, which has their libraries."""
    with forks.serving(tmp_path_factory.mktemp("forks")):
        yield


@pytest.fixture
def trainings(tmp_path, storage, snapshot, tiny_models, forked_jobs):
    """A function that makes the spec of a training of a tiny model."""
    from training_runs import APPLICATION, SMALL

    from nightshift.jobs.train_contract import Spec
    from nightshift.settings.training import Training

    partition, manifest = snapshot

    def spec(**settings):
        return Spec(
            application=APPLICATION,
            storage=storage,
            snapshot=str(partition),
            digest=manifest.digest,
            base_model=tiny_models.random,
            training=Training.model_validate({**SMALL, **settings}),
        )

    return spec


@pytest.fixture
def application(request, tiny_models):
    name = "app_" + str(abs(hash(request.node.name)) % 10**8)
    return Application(
        name=name,
        base_model=tiny_models.random,
        sources=[{"uri": "rows.jsonl", "columns": {"prompt": "text", "answer": "answer"}}],
        inference=Inference(engine="transformers", max_new_tokens=8, rows_per_part=7, batch_tokens=2_000),
    )


@pytest.fixture
def crown(application, mlflow_server):
    """A function that registers a published model as the champion."""
    from nightshift.registry.models import register, set_alias
    from nightshift.registry.versions import CHAMPION

    def crowned(partition, manifest):
        def package(_logged, _whole):
            return UPath(str(partition / manifest.files[0].path)).parent

        registered = register(
            application.name, model=str(partition), digest=manifest.digest, weights=manifest.digest, tags={}, description="",
            package=package, run_id=None,
        )  # fmt: skip
        set_alias(registered, CHAMPION)
        return registered

    return crowned


@pytest.fixture
def champion(application, publish_model, tiny_models, crown):
    """A function that registers the trained tiny model as the champion, under another digest for another seed."""

    def of_folder(seed=1, folder=tiny_models.trained):
        return crown(*publish_model(folder, application=application.name, seed=seed))

    return of_folder


@pytest.fixture
def night(application, storage, publish_day, tiny_models):
    """Arguments of a spec: a day of examples, 25 of them traffic (some hostile, some twice)."""
    asked = [f"where is card number {n * 7919} of mine" for n in range(17)]
    traffic = [(text, tiny_models.answer, "traffic") for text in asked]
    traffic += [(text, None, "traffic") for text in [*HOSTILE, asked[0], asked[1]]]
    rows = [("a training row", "x", "train"), *traffic[:9], ("held out", "y", "held_out"), *traffic[9:]]
    partition, manifest = publish_day("2026-11-02", rows, application=application.name)
    return {
        "application": application,
        "storage": storage,
        "prompts": str(partition),
        "digest": manifest.digest,
    }
