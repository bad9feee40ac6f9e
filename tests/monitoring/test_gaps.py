"""Questions that no document answers: bounded by what the reference found, and shown with the least answered first."""

from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.errors import BadInput
from nightshift.monitoring.drift_report import gaps_in
from nightshift.monitoring.profiles import profile_of, read_batches
from nightshift.settings.metrics import Metric

RELEVANCE = Metric.RETRIEVAL_RELEVANCE


def measured(path, relevances):
    """The profile of the relevance of some best passages, and their rows."""
    rows = pa.table(
        {"prompt": [f"question {at}" for at in range(len(relevances))], RELEVANCE: pa.array(relevances, pa.float32())}
    )
    pq.write_table(rows, path)
    return profile_of(read_batches(path, [RELEVANCE]), [RELEVANCE]), rows


def gaps(tmp_path, night, reference):
    profile, sample = measured(tmp_path / "night.parquet", night)
    before, _ = measured(tmp_path / "reference.parquet", reference)
    return gaps_in(SimpleNamespace(profile=profile, sample=sample, reference=SimpleNamespace(profile=before)))


def test_a_question_whose_passages_are_less_relevant_than_nearly_all_of_the_reference_is_a_gap(tmp_path):
    rows, said = gaps(tmp_path, [0.9] * 15 + [0.0, 0.0, 0.05, 0.0, 0.3], [0.5 + at / 200 for at in range(100)])
    assert [row["prompt"] for row in rows] == [
        "question 15",
        "question 16",
        "question 18",
        "question 17",
        "question 19",
    ]
    assert said.startswith(
        "15% of the questions found no passage that has to do with them. With these, the best passage of 25% has a relevance"
    )


def test_an_application_without_an_index_has_no_gaps(tmp_path):
    assert gaps(tmp_path, [None] * 5, [None] * 5) == ([], "")
    assert gaps(tmp_path, [0.1], [None] * 5) == ([], "")  # the reference is of a version without one


def test_a_night_of_before_there_were_indexes_is_profiled_and_any_other_lacking_column_is_an_error(tmp_path):
    pq.write_table(pa.table({"prompt_tokens": pa.array([3, 4], pa.int32())}), tmp_path / "old.parquet")
    profile = profile_of(
        read_batches(tmp_path / "old.parquet", ["prompt_tokens", RELEVANCE]), ["prompt_tokens", RELEVANCE]
    )
    assert (profile.get("prompt_tokens").rows, profile.get(RELEVANCE).missing) == (2, 2)
    with pytest.raises(BadInput, match="has no column prompt_characters"):
        list(read_batches(tmp_path / "old.parquet", ["prompt_characters", RELEVANCE]))
