"""Questions that no document answers, against what the reference found, and documents that answers stray from."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.errors import BadInput
from nightshift.monitoring.of_documents import gaps_in, least_kept_to
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
    return gaps_in(profile, sample, before)


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


def test_the_documents_that_answers_keep_to_least_come_first_where_there_are_enough_answers(tmp_path):
    given = (
        [(["fees#0-9", "fees#5-20", "cards#0-9"], 0.2)] * 10 + [(["cards#0-9"], 0.8)] * 10 + [(["rare#0-9"], 0.0)] * 9
    )
    rows = [
        {"retrieved": [{"document": one.partition("#")[0], "id": one} for one in passages], "groundedness": value}
        for passages, value in [*given, ([], 0.0), (["fees#0-9"], None)]
    ]
    pq.write_table(pa.Table.from_pylist([*rows, {"retrieved": None, "groundedness": 0.1}]), tmp_path / "night.parquet")
    found = least_kept_to(tmp_path / "night.parquet", tmp_path).to_pylist()
    assert [(one["document"], one["answers"], round(one["groundedness"], 6)) for one in found] == [
        ("fees", 10, 0.2),
        ("cards", 20, 0.5),
    ]
