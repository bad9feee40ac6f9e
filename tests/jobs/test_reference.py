"""The reference of a model: what it was trained and judged on, measured as its nights will be."""

import pyarrow.parquet as pq
import pytest
from sample_intervals import application, publish_reference
from upath import UPath

from nightshift.jobs import reference
from nightshift.monitoring.references import read_reference, reference_partition
from nightshift.settings.metrics import Metric
from nightshift.storage.manifest import require_manifest

pytestmark = pytest.mark.slow


@pytest.fixture
def spec(storage, publish_day, wordless_model, progress):
    return publish_reference(application("referring", wordless_model), storage, publish_day, progress)


def test_prompts_of_training_and_judging_are_profiled_and_answers_beside_them(spec, progress, tmp_path):
    result = reference.run(spec, progress)
    read = read_reference(UPath(result.reference), result.digest, tmp_path)
    assert result.reference == str(reference_partition(spec.storage, spec.application.name, spec.model_digest))
    assert result.answers == 300
    assert read.profile.rows() == result.rows
    # Half of the training rows made the topics; the others and the held-out rows are what a night is compared with.
    counts = require_manifest(UPath(spec.snapshot)).counts
    assert result.rows == pytest.approx(counts["train"] / 2 + counts["held_out"], rel=0.05)
    topics = read.profile.get(Metric.PROMPT_TOPIC)
    assert topics.rows == result.rows
    assert set(topics.counts) <= set(read.topics.names)
    match = read.profile.get(Metric.EXACT_MATCH)
    assert (match.rows, match.missing, match.mean) == (300, 0, 1)
    assert read.profile.get("prompt_embedding/15").rows == result.rows


def test_the_sample_is_bounded_and_holds_no_more_of_a_text_than_is_shown(spec, progress):
    result = reference.run(spec, progress)
    at = UPath(result.reference)
    sample = pq.read_table((at / require_manifest(at).file("sample.parquet").path).path)
    assert 0 < sample.num_rows <= 2_000
    assert {"prompt", "response", "prompt_topic", "exact_match"} <= set(sample.column_names)


def test_the_same_model_has_one_reference(spec, progress):
    first = reference.run(spec, progress)
    created = require_manifest(UPath(first.reference)).created
    assert reference.run(spec, progress) == first
    assert require_manifest(UPath(first.reference)).created == created


def test_made_again_it_is_the_same(spec, progress):
    first = reference.run(spec, progress)
    (UPath(first.reference) / "manifest.json").unlink()
    assert reference.run(spec, progress).digest == first.digest


def test_another_precision_of_scores_makes_the_reference_anew(spec, progress):
    first = reference.run(spec, progress)
    settings = spec.application.model_dump(mode="json") | {"scoring": {"precision": "bfloat16"}}
    quick = spec.model_copy(update={"application": type(spec.application).model_validate(settings)})
    assert reference.run(quick, progress).digest != first.digest
