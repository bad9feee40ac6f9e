"""A version with an index gives a row the same passages, and answers it the same, when it is judged and at night."""

import pyarrow.parquet as pq
import pytest
from indexed import pinned
from upath import UPath

from nightshift.evaluation.answers import EvaluatedModel, answers_to
from nightshift.evaluation.groundedness import groundedness
from nightshift.evaluation.interaction_file import answered
from nightshift.inference.answering import RESPONSES, Answering
from nightshift.inference.prompts import Prompts
from nightshift.storage.application_version import Parts, open_version, publish_version
from nightshift.storage.manifest import Parent
from nightshift.storage.partition import fetch

pytestmark = pytest.mark.slow
DOCUMENTS = [("fees", "Fees", "A replacement costs 5 euros."), ("arrival", "", "Cards arrive within five days.")]
ASKED = [f"what does replacement {n} cost" for n in range(3)]


@pytest.fixture
def version(application, storage, publish_model, tiny_models):
    """A function that opens the version of random weights with an index, or without one."""
    at, manifest = publish_model(tiny_models.random, application=application.name)
    weights = Parent(uri=str(at), digest=manifest.digest)

    def opened(index=None):
        version, made = publish_version(application, storage, Parts.of(application, weights, index))
        return open_version(str(version), made.digest, application)

    return opened


@pytest.fixture
def said(storage, publish_day, tmp_path):
    """A function that returns the rows of a night, and of an evaluation on the same rows, that a version answered."""

    def rows(version):
        name = version.application.name
        partition, manifest = publish_day(
            "2026-11-02", [(text, "5 euros", "traffic") for text in ASKED], application=name
        )
        prompts = Prompts(partition, manifest, tmp_path / version.digest)
        place = {"storage": storage, "responses": UPath(storage) / name / "responses" / version.digest}
        answering = Answering(
            version.application, prompts, **place, inputs={}, parents=[], model_folder=lambda: version.fetch(tmp_path),
            folder=tmp_path / "index",
        )  # fmt: skip
        part = answering.make(0, 2, lambda *_: None)
        at = place["responses"] / "000000000-000000002"
        (night,) = answered(prompts, [(at, part)], tmp_path / "night" / version.digest)
        held_out = prompts.read(0, 2, ["digest", "messages", "tools", "metadata", "prompt", "answer", "language"])
        judged = answers_to(
            EvaluatedModel.of("candidate", "it", version), held_out.to_pylist(), storage, lambda *_: None
        ).table
        assert pq.read_table(fetch(at, part, RESPONSES, tmp_path / "parts")).num_rows == 3
        return night, judged

    return rows


def test_an_evaluation_and_a_night_give_the_same_passages_and_answers(version, said, storage):
    index = pinned(DOCUMENTS, storage, search="bm25", k=2)
    night, judged = said(version(index))
    assert night["response"].to_pylist() == judged["answer"].to_pylist()
    for name in ("retrieved", "context"):
        assert night[name].to_pylist() == judged[name].to_pylist()
    assert {one[0]["document"] for one in night["retrieved"].to_pylist()} == {"fees"}
    assert night["context"].to_pylist() == ["[1] Fees\n    A replacement costs 5 euros."] * 3
    assert groundedness("A replacement is 5 euros.", night["context"][0].as_py()) == 1.0
    # Without the index the same weights, asked the same, are another version with other answers.
    alone, of_alone = said(version())
    assert alone["retrieved"].null_count == of_alone["retrieved"].null_count == 3
    assert alone["response"].to_pylist() != night["response"].to_pylist()
    assert of_alone["answer"].to_pylist() != judged["answer"].to_pylist()
