"""Profiles of interactions: made in one pass, added up, written and read."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.errors import BadInput
from nightshift.monitoring.counting import MOST_SEGMENTS
from nightshift.monitoring.profiles import (
    ALL_ROWS,
    MOST_CATEGORIES,
    OTHER,
    merge,
    profile_of,
    read_batches,
    read_profile,
    write_profile,
)  # fmt: skip
from nightshift.settings.metrics import Metric

METRICS = [
    Metric.PROMPT_CHARACTERS,
    Metric.PROMPT_LANGUAGE,
    Metric.FINISH_REASON,
    Metric.GROUNDEDNESS,
    Metric.SENTIMENT,
]


@pytest.fixture(scope="module")
def night():
    rng = np.random.default_rng(4)
    rows = 3_000
    language = rng.choice(["en", "es", "de"], rows, p=[0.8, 0.15, 0.05])
    return pa.table(
        {
            "prompt_characters": pa.array(rng.integers(5, 400, rows), pa.int32()),
            "prompt_language": pa.array(language),
            "finish_reason": pa.array(rng.choice(["stop", "length"], rows), mask=rng.random(rows) < 0.1),
            "groundedness": pa.array(rng.random(rows).astype(np.float32), mask=rng.random(rows) < 0.3),
            "sentiment": pa.array(rng.uniform(-1, 1, rows).astype(np.float32)),
            "metadata": pa.array(
                [[("channel", "app" if odd else "web")] if odd < 2 else [] for odd in rng.integers(0, 3, rows)],
                pa.map_(pa.string(), pa.string()),
            ),
        }
    )


@pytest.fixture(scope="module")
def profile(night):
    return profile_of(night.to_batches(500), METRICS, ["channel"])


def same(one, other):
    return set(one.distributions) == set(other.distributions) and all(
        one.get(metric, segment) == found
        if metric in {"prompt_language", "finish_reason"}
        else np.array_equal(one.get(metric, segment).cells, found.cells)
        and np.array_equal(one.get(metric, segment).counts, found.counts)
        and one.get(metric, segment).missing == found.missing
        for (segment, metric), found in other.distributions.items()
    )


def test_a_profile_holds_every_row_of_every_metric(night, profile):
    assert profile.rows() == 3_000
    lengths = profile.get("prompt_characters")
    expected = np.sort(night["prompt_characters"].to_numpy())
    assert np.array_equal(np.repeat(lengths.values, lengths.counts), expected)
    assert profile.get("groundedness").missing == night["groundedness"].null_count
    reasons = profile.get("finish_reason")
    assert reasons.missing == night["finish_reason"].null_count
    assert reasons.counts["stop"] == night["finish_reason"].to_pylist().count("stop")


def test_segments_are_the_languages_and_the_metadata_asked_for(night, profile):
    channels = [dict(row).get("channel") for row in night["metadata"].to_pylist()]
    assert profile.segments() == [
        "channel=app", "channel=web", "prompt_language=de", "prompt_language=en", "prompt_language=es",
    ]  # fmt: skip
    assert profile.rows("channel=app") == channels.count("app")
    app = night.filter(pa.array([channel == "app" for channel in channels]))
    grounded = profile.get("groundedness", "channel=app")
    assert grounded.missing == app["groundedness"].null_count
    expected = np.sort(app["groundedness"].drop_null().to_numpy())
    assert np.allclose(np.repeat(grounded.values, grounded.counts), expected, rtol=1 / 240)
    assert profile.get("prompt_language", "channel=app").counts["es"] == app["prompt_language"].to_pylist().count("es")
    feelings = profile.get("sentiment", "channel=app")
    assert feelings.mean == pytest.approx(app["sentiment"].to_numpy().mean(), abs=0.003)


def test_two_halves_add_up_to_the_whole(night, profile):
    halves = [profile_of(night.slice(start, 1_500).to_batches(), METRICS, ["channel"]) for start in (0, 1_500)]
    assert same(merge(halves), profile)


def test_the_size_of_the_batches_changes_nothing(night, profile):
    assert same(profile_of(night.to_batches(37), METRICS, ["channel"]), profile)


def test_a_profile_comes_back_from_its_file_and_equal_ones_have_equal_bytes(night, profile, tmp_path):
    write_profile(profile, tmp_path / "one.parquet")
    assert same(read_profile(tmp_path / "one.parquet"), profile)
    write_profile(profile_of(night.to_batches(), METRICS, ["channel"]), tmp_path / "two.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_an_interactions_file_is_read_column_by_column(night, profile, tmp_path):
    file = tmp_path / "interactions.parquet"
    pq.write_table(night.append_column("prompt", pa.array(["long text"] * 3_000)), file, row_group_size=700)
    batches = list(read_batches(file, [*METRICS, "metadata"]))
    assert "prompt" not in batches[0].schema.names
    assert pa.types.is_dictionary(batches[0].schema.field("prompt_language").type)
    assert same(profile_of(batches, METRICS, ["channel"]), profile)


def test_the_rarest_categories_are_counted_together():
    reasons = [f"reason {number:04}" for number in range(MOST_CATEGORIES + 10)] + ["reason 1005"] * 3
    rows = pa.record_batch({"finish_reason": pa.array(reasons)})
    counts = profile_of([rows], ["finish_reason"]).get("finish_reason").counts
    assert len(counts) == MOST_CATEGORIES + 1
    assert counts["reason 1005"] == 4
    assert counts[OTHER] == 10
    assert sum(counts.values()) == len(reasons)


def test_a_column_with_too_many_values_makes_only_so_many_segments():
    values = ["en"] * 50 + [f"x{number}" for number in range(500)]
    rows = pa.record_batch({"prompt_language": pa.array(values)})
    segments = profile_of([rows], ["prompt_language"]).segments()
    assert len(segments) == MOST_SEGMENTS
    assert "prompt_language=en" in segments


def test_an_endless_name_is_cut():
    rows = pa.record_batch({"finish_reason": pa.array(["x" * 1_000_000, "x" * 999_999])})
    assert profile_of([rows], ["finish_reason"]).get("finish_reason").counts == {"x" * 200: 2}


def test_columns_without_a_value_and_nights_without_a_row_are_profiles_too(tmp_path):
    rows = pa.record_batch({"judge": pa.nulls(5, pa.float32()), "finish_reason": pa.nulls(5, pa.string())})
    write_profile(profile_of([rows], ["judge", "finish_reason"]), tmp_path / "profile.parquet")
    read = read_profile(tmp_path / "profile.parquet")
    assert [(read.get(name).rows, read.get(name).missing) for name in ("judge", "finish_reason")] == [(0, 5), (0, 5)]
    write_profile(profile_of([], ["judge"]), tmp_path / "empty.parquet")
    assert read_profile(tmp_path / "empty.parquet").rows() == 0


def test_a_lacking_column_is_named(night, tmp_path):
    with pytest.raises(BadInput, match="toxicity"):
        profile_of(night.to_batches(), ["toxicity"])
    pq.write_table(night, tmp_path / "night.parquet")
    with pytest.raises(BadInput, match="toxicity"):
        list(read_batches(tmp_path / "night.parquet", ["toxicity"]))


def test_what_is_no_profile_is_refused(night, tmp_path):
    pq.write_table(night.select(["prompt_language"]), tmp_path / "other.parquet")
    with pytest.raises(BadInput, match="not a profile"):
        read_profile(tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(BadInput, match="not a profile"):
        read_profile(tmp_path / "text.parquet")
    with pytest.raises(BadInput, match="Parquet"):
        list(read_batches(tmp_path / "text.parquet", ["judge"]))


def test_all_rows_is_the_segment_without_a_name(profile):
    assert profile.metrics(ALL_ROWS) == sorted(METRICS)
