"""Great Expectations over all rows of a Parquet file: its answers are those that it gives on a frame of pandas."""

import math
import random
from contextlib import closing
from datetime import UTC, datetime, timedelta

import great_expectations as gx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.data import partition_engine
from nightshift.data.data_docs import pages
from nightshift.data.expectations import check, check_rows, failures
from nightshift.data.partition_rows import PartitionRows
from nightshift.verdict import Verdict

WORDS = [
    "", "card", "Card", "card_arrival", "top up\n", "12", "\uff11\uff12", "naïve", "日本語", "a\u00a0b", "x\x00y", "null",
    "None", "🙂", "n\n\n",
]  # fmt: skip
SCHEMA = pa.schema({
    "digest": pa.string(), "text": pa.string(), "other": pa.string(), "full": pa.string(), "number": pa.int64(),
    "small": pa.int32(), "holes": pa.int64(), "real": pa.float64(), "rate": pa.float64(), "single": pa.float32(),
    "flag": pa.bool_(), "time": pa.timestamp("us", tz="UTC"),
})  # fmt: skip


def table(seed, rows):
    """Return a table of every type, with nulls, NaN, repeated values and texts of many scripts."""
    chance = random.Random(seed)
    nothing = chance.choice([0, 0.2, 1])

    def column(draw, missing):
        return [None if chance.random() < missing else draw() for _ in range(rows)]

    def word():
        return chance.choice(WORDS)

    def number():
        return chance.randint(-5, 20)

    def real():
        return chance.choice([math.nan, -0.0, 0.0, 1.5, number() / 4, float(number())])

    start = datetime(2026, 3, 1, tzinfo=UTC)
    columns = {
        "digest": [f"{chance.getrandbits(64):016x}" for _ in range(rows)],
        "text": column(word, nothing), "other": column(word, 0.3), "full": column(word, 0), "number": column(number, 0),
        "small": column(number, 0), "holes": column(number, 0.3), "real": column(real, nothing),
        "rate": column(chance.random, 0.1), "single": column(real, 0.2), "flag": column(lambda: chance.random() < 0.5, 0.2),
        "time": column(lambda: start + timedelta(hours=chance.randint(0, 50)), 0.2),
    }  # fmt: skip
    return pa.table(columns, SCHEMA)


def expected(kind, **kwargs):
    return {"type": f"expect_{kind}", "kwargs": kwargs}


PATTERNS = ["^[a-z ]+$", r"\d", r"^\w+$", "card|naïve", r"\s", "", "^$", r"a.b", r"^.{2,4}\Z", "[^a-z]$"]
PYTHONS_PATTERNS = [r"\bcard\b", r"(?i)CARD", r"(.)\1", r"^(?!card)", "a$\n", r"x(?=\x00)"]
COLUMNS = ["text", "full", "number", "small", "holes", "real", "rate", "single", "flag", "time"]
SUITE = [
    expected("table_row_count_to_be_between", min_value=1, max_value=10),
    expected("table_column_count_to_equal", value=12),
    expected("table_columns_to_match_set", column_set=["digest"], exact_match=False),
    *(expected("column_values_to_not_be_null", column=column, mostly=0.8) for column in COLUMNS),
    *(expected("column_values_to_be_null", column=column) for column in COLUMNS),
    *(expected("column_to_exist", column=column) for column in ["text", "elsewhere"]),
    *(expected("column_values_to_match_regex", column="text", regex=regex) for regex in PATTERNS + PYTHONS_PATTERNS),
    *(expected("column_values_to_not_match_regex", column="full", regex=regex, mostly=0.5) for regex in PATTERNS),
    expected("column_values_to_match_regex", column="holes", regex="^1"),
    expected("column_values_to_match_regex", column="real", regex=r"\.5$"),
    expected("column_values_to_match_regex_list", column="text", regex_list=["^c", r"\d$"], match_on="any"),
    expected("column_values_to_match_regex_list", column="text", regex_list=["c", "a"], match_on="all"),
    expected("column_values_to_not_match_regex_list", column="text", regex_list=["^c", r"\d$"]),
    *(
        expected(f"column_values_to_{word}be_in_set", column=column, value_set=members)
        for word in ("", "not_")
        for column, members in [
            ("text", ["card", "12", ""]), ("text", ["card", 12, None]), ("text", []), ("number", [1, 2, 3.5]),
            ("holes", [1, 2]), ("real", [0, 1.5]), ("flag", [True]), ("number", ["1"]),
        ]
    ),
    *(
        expected("column_values_to_be_between", column=column, min_value=low, max_value=high, **strict)
        for column, low, high in [
            ("number", 0, 10), ("small", 0, None), ("holes", None, 10.5), ("real", 0, 2), ("rate", 0.25, 0.75),
            ("full", 0, 1), ("text", None, 1), ("single", 0, 2),
        ]
        for strict in ({}, {"strict_min": True, "strict_max": True})
    ),
    expected("column_values_to_be_between", column="time", min_value="2026-03-01T05:00:00+00:00"),
    *(
        expected("column_value_lengths_to_be_between", column=column, min_value=1, max_value=5, strict_max=True)
        for column in ("text", "number")
    ),
    expected("column_value_lengths_to_equal", column="full", value=4),
    *(expected("column_values_to_be_unique", column=column) for column in ["digest", *COLUMNS]),
    *(expected("column_values_to_be_of_type", column=column, type_="str") for column in ("text", "number")),
    expected("column_values_to_be_in_type_list", column="full", type_list=["str", "int"]),
    expected("column_values_to_be_json_parseable", column="text"),
    expected("column_values_to_be_dateutil_parseable", column="text"),
    expected("column_values_to_match_strftime_format", column="text", strftime_format="%H"),
    *(
        expected(f"column_{name}_to_be_between", column=column, min_value=0, max_value=9)
        for name in ("min", "max", "mean", "sum", "stdev", "median")
        for column in ("number", "small", "holes", "real", "rate")
    ),
    *(
        expected(f"column_{name}_to_be_between", column="time", min_value="2026-03-01T05:00:00+00:00")
        for name in ("min", "max")
    ),
    *(
        expected(
            "column_quantile_values_to_be_between", column=column,
            quantile_ranges={"quantiles": [0, 0.25, 0.5, 0.9, 1], "value_ranges": [[None, 9]] * 5},
        )
        for column in ("number", "real", "rate")
    ),
    *(
        expected(f"column_{name}_to_be_between", column=column, min_value=0, max_value=5)
        for name in ("unique_value_count", "proportion_of_unique_values", "proportion_of_non_null_values")
        for column in ("text", "number", "holes", "real", "flag", "time")
    ),
    *(
        expected(f"column_distinct_values_to_{word}_set", column=column, value_set=members)
        for word in ("be_in", "contain", "equal")
        for column, members in [("text", ["card", "12"]), ("number", [1, 2]), ("real", [1.5]), ("full", WORDS)]
    ),
    *(
        expected("column_most_common_value_to_be_in_set", column=column, value_set=[members], ties_okay=True)
        for column, members in [("text", "card"), ("number", 3), ("real", 1.5)]
    ),
    *(
        expected("column_pair_values_to_be_equal", column_A=one, column_B=other, ignore_row_if=ignored)
        for one, other in [("text", "other"), ("full", "text"), ("number", "small"), ("real", "rate"), ("real", "text")]
        for ignored in ("neither", "both_values_are_missing", "either_value_is_missing")
    ),
    *(
        expected("column_pair_values_a_to_be_greater_than_b", column_A=one, column_B=other, or_equal=equal)
        for one, other in [("number", "small"), ("real", "rate"), ("number", "real")]
        for equal in (True, False)
    ),
    expected("column_pair_values_to_be_in_set", column_A="text", column_B="full", value_pairs_set=[["card", "card"]]),
    *(
        expected("select_column_values_to_be_unique_within_record", column_list=columns, ignore_row_if=ignored)
        for columns in (["text", "other", "full"], ["number", "small", "real"], ["text", "number"])
        for ignored in ("never", "all_values_are_missing", "any_value_is_missing")
    ),
    *(
        expected("compound_columns_to_be_unique", column_list=columns, ignore_row_if=ignored)
        for columns in (["text", "other"], ["real", "holes"], ["digest", "text"])
        for ignored in ("never", "all_values_are_missing", "any_value_is_missing")
    ),
    expected("multicolumn_sum_to_equal", column_list=["number", "small"], sum_total=10),
    expected("multicolumn_values_to_be_equal", column_list=["text", "other"]),
    *(
        expected(kind, **kwargs, row_condition=condition, condition_parser="pandas")
        for condition in [
            'full == "card"', 'text != "card"', 'text in ["card", "12"] and number > 3', "(real > 0) | ~(number <= 2)",
            "real != 0", "holes.isnull()", "not text.notnull()", 'time > "2026-03-02"', "number > number.mean()",
            "`number` > 3", "real not in [0, 1.5]", "holes > 3", 'other < "b"',
        ]
        for kind, kwargs in [
            ("column_values_to_match_regex", {"column": "text", "regex": "^c"}),
            ("column_values_to_be_unique", {"column": "number"}),
            ("column_mean_to_be_between", {"column": "number", "min_value": 3}),
            ("table_row_count_to_be_between", {"min_value": 3}),
            ("column_pair_values_to_be_equal", {"column_A": "text", "column_B": "full"}),
            ("column_distinct_values_to_be_in_set", {"column": "full", "value_set": ["card"]}),
        ]
    ),
    expected("column_value_z_scores_to_be_less_than", column="number", threshold=1, double_sided=True),
    expected("column_values_to_be_increasing", column="number"),
    expected(
        "column_kl_divergence_to_be_less_than", column="full", threshold=0.1,
        partition_object={"values": ["card", ""], "weights": [0.5, 0.5]},
    ),
    expected("column_values_to_match_regex", column="elsewhere", regex="x"),
    expected("column_values_to_match_regex", column="text", regex="(unclosed"),
]  # fmt: skip


def answers(result):
    """What results say, by expectation: floating-point sums in another order differ in their last digits."""
    found = {}
    for item in result.results:
        config = item.expectation_config
        kwargs = {key: value for key, value in config.to_json_dict()["kwargs"].items() if key != "batch_id"}
        said = item.to_json_dict()
        exceptions = [said["exception_info"], *(v for v in said["exception_info"].values() if isinstance(v, dict))]
        broken = any(each.get("raised_exception") for each in exceptions)
        found[str((config.type, kwargs))] = ("broken" if broken else said["success"], rounded(said["result"]))
    return found


def rounded(value):
    if isinstance(value, float):
        return "nan" if math.isnan(value) else float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


PARTS = 8


def compare(folder, seed, rows, part):
    """Return what differs between our answers and theirs; a part of the suite at a time, for graphs cost its square."""
    file = folder / "rows.parquet"
    pq.write_table(table(seed, rows), file, row_group_size=16)
    suite = gx.ExpectationSuite(name="everything", expectations=SUITE[part::PARTS])
    with closing(PartitionRows(file, SCHEMA.names, folder)) as all_rows:
        frame = all_rows.sample(rows, by="digest")
    theirs = answers(check(frame, suite, folder / "theirs"))
    ours = answers(check_rows(file, suite, folder / "ours", SCHEMA.names))
    assert len(theirs) >= len(SUITE) // PARTS
    assert set(ours) == set(theirs)
    return {key: (ours[key], theirs[key]) for key in theirs if ours[key] != theirs[key]}


def test_all_rows_are_judged_as_great_expectations_judges_them_on_pandas(tmp_path):
    assert compare(tmp_path, seed=1, rows=40, part=1) == {}


def test_values_that_repeat_are_found_also_where_they_are_compared_in_parts(tmp_path, monkeypatch):
    columns = SCHEMA.names
    suite = gx.ExpectationSuite(
        name="repeats",
        expectations=[
            *(expected("column_values_to_be_unique", column=column) for column in columns),
            expected("compound_columns_to_be_unique", column_list=["text", "other"], ignore_row_if="never"),
        ],
    )
    pq.write_table(table(seed=3, rows=300), tmp_path / "rows.parquet")
    at_once = answers(check_rows(tmp_path / "rows.parquet", suite, tmp_path / "at once", columns))
    monkeypatch.setattr(partition_engine, "ROWS_COMPARED", 40)
    assert answers(check_rows(tmp_path / "rows.parquet", suite, tmp_path / "in parts", columns)) == at_once
    assert {said for said, _ in at_once.values()} == {True, False}


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(("seed", "rows"), [(1, 40), (2, 1), (3, 300), (4, 40), (5, 41)])
def test_every_expectation_is_answered_as_on_pandas_whatever_the_rows(tmp_path, seed, rows, part):
    assert compare(tmp_path, seed, rows, part) == {}


def test_the_last_of_very_many_rows_is_seen_without_reading_them_into_pandas(tmp_path, monkeypatch):
    monkeypatch.delattr(PartitionRows, "batches")
    rows = 200_001
    columns = {"digest": [f"{row:08d}" for row in range(rows)], "answer": ["card"] * (rows - 1) + ["c4rd"]}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    suite = gx.ExpectationSuite(
        name="words", expectations=[expected("column_values_to_match_regex", column="answer", regex="^[a-z]+$")]
    )
    result = check_rows(tmp_path / "rows.parquet", suite, tmp_path / "gx", list(columns))
    (found,) = failures(result)
    assert "1 of 200,001 rows do not" in found.sentence
    assert result.results[0].result["partial_unexpected_list"] == ["c4rd"]
    assert result.results[0].result["partial_unexpected_index_list"] == [200_000]


def test_what_needs_all_rows_at_once_is_checked_on_a_sample_and_the_result_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr("nightshift.data.expectations.SAMPLE_ROWS", 10)
    pq.write_table(table(seed=1, rows=40), tmp_path / "rows.parquet")
    suite = gx.ExpectationSuite(
        name="order",
        expectations=[
            expected("column_values_to_be_increasing", column="number"),
            expected("column_values_to_not_be_null", column="number"),
        ],
    )
    result = check_rows(tmp_path / "rows.parquet", suite, tmp_path / "gx", SCHEMA.names)
    (found,) = failures(result)
    assert found.sentence.endswith("of 10 rows do not (in a sample of 10 of 40 rows)")
    page = pages({"order": result}, "shop", Verdict.FAIL, [found.sentence])["index.html"]
    assert "expect_column_values_to_be_increasing (number): checked on a sample of 10 of 40 rows" in page
    assert "expect_column_values_to_not_be_null (number): checked" not in page


def found_in(folder, *expectations, rows=40):
    """Return what each expectation says of so many rows: whether it holds, or `broken`."""
    pq.write_table(table(seed=1, rows=rows), folder / "rows.parquet")
    suite = gx.ExpectationSuite(name="several", expectations=list(expectations))
    result = check_rows(folder / "rows.parquet", suite, folder / "gx", SCHEMA.names)
    return {kind.partition("'")[2].partition("'")[0]: said for kind, (said, _) in answers(result).items()}


def test_a_sum_that_nulls_make_uncountable_breaks_no_other_expectation(tmp_path):
    said = found_in(
        tmp_path,
        expected("multicolumn_sum_to_equal", column_list=["number", "holes"], sum_total=10),
        expected("column_values_to_not_be_null", column="number"),
    )
    assert said == {"expect_multicolumn_sum_to_equal": "broken", "expect_column_values_to_not_be_null": True}


@pytest.mark.parametrize("condition", ["number == {[1]}", "number == {{1: 2}: 3}", "number in {1, [2]}"])
def test_a_condition_on_rows_that_python_cannot_evaluate_breaks_no_other_expectation(tmp_path, condition):
    said = found_in(
        tmp_path,
        expected("column_mean_to_be_between", column="number", row_condition=condition, condition_parser="pandas"),
        expected("column_values_to_not_be_null", column="number"),
    )
    assert said == {"expect_column_mean_to_be_between": "broken", "expect_column_values_to_not_be_null": True}


def test_what_is_expected_of_each_row_holds_where_there_are_none(tmp_path):
    said = found_in(
        tmp_path,
        expected("column_values_to_not_be_null", column="text"),
        expected("column_values_to_match_regex", column="full", regex="^[a-z ]+$"),
        rows=0,
    )
    assert said == {"expect_column_values_to_not_be_null": True, "expect_column_values_to_match_regex": True}
