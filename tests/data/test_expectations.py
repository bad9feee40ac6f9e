"""The verdict on a partition: never a pass without data, never a pass of a broken check."""

import json

import pandas as pd
import pytest

from nightshift.data.data_docs import pages
from nightshift.data.expectations import Outcome, check, decide, failures, profile_suite, read_suite
from nightshift.data.profile import MEASURES
from nightshift.errors import BadInput
from nightshift.settings.intake import Measure, Validation
from nightshift.verdict import Verdict

FAILED = Outcome("critical", Verdict.FAIL)
WARNED = Outcome("warning", Verdict.WARN)
BROKEN = Outcome("broken", Verdict.ERROR)


@pytest.mark.parametrize(
    ("outcomes", "rows", "verdict"),
    [
        ([], 100, Verdict.PASS),
        ([WARNED], 100, Verdict.WARN),
        ([WARNED, FAILED], 100, Verdict.FAIL),
        ([FAILED, BROKEN], 100, Verdict.ERROR),
        ([], 99, Verdict.INSUFFICIENT_DATA),
        ([], 0, Verdict.INSUFFICIENT_DATA),
        ([WARNED], 99, Verdict.INSUFFICIENT_DATA),
        ([FAILED], 99, Verdict.FAIL),
    ],
)
def test_the_worst_finding_decides(outcomes, rows, verdict):
    found, reasons = decide(outcomes, rows, Validation(min_rows=100), checked=3)
    assert found is verdict
    assert reasons
    assert len(reasons) == max(1, len(outcomes) + (rows < 100))


@pytest.fixture
def judge(tmp_path):
    def run(measures, *expectations):
        suite = profile_suite(measures, [Measure(**expected) for expected in expectations])
        return failures(check(pd.DataFrame([measures]), suite, tmp_path / "great_expectations"))

    return run


def test_a_failure_is_told_with_number_bound_and_severity(judge):
    found = judge(
        {"quarantined_share": 0.123456, "rows": 80.0},
        {"measure": "quarantined_share", "max": 0.05},
        {"measure": "rows", "min": 100, "max": 200, "severity": "warning"},
    )
    assert found == [
        Outcome("quarantined_share must be at most 0.05 (critical): it is 0.1235", Verdict.FAIL),
        Outcome("rows must lie between 100 and 200 (warning): it is 80", Verdict.WARN),
    ]


def test_bounds_are_included_and_one_measure_may_have_two(judge):
    twice = [{"measure": "rows", "min": 10}, {"measure": "rows", "min": 20, "severity": "warning"}]
    assert judge({"rows": 20.0}, *twice) == []


def test_every_measure_can_be_expected_of(judge):
    measures = {name: float(number) for number, name in enumerate(MEASURES)}
    assert judge(measures, *({"measure": name, "min": 0} for name in MEASURES)) == []


@pytest.mark.parametrize(
    ("bounds", "found"),
    [
        ([], [Outcome("names_searched_share must be at least 1 (warning): it is 0.9", Verdict.WARN)]),
        ([{"measure": "names_searched_share", "min": 0.9}], []),
    ],
)
def test_rows_that_nobody_searched_for_names_are_a_warning_unless_a_bound_says_otherwise(judge, bounds, found):
    assert judge({"names_searched_share": 0.9}, *bounds) == found


def test_an_application_that_looks_for_no_names_is_not_asked_for_them():
    assert profile_suite({"rows": 5.0}, []).expectations == []


def suite_file(tmp_path, *expectations):
    path = tmp_path / "answers.json"
    path.write_text(json.dumps({"name": "answers", "expectations": list(expectations)}))
    return path


WORDS = {
    "type": "expect_column_values_to_match_regex",
    "kwargs": {"column": "answer", "regex": "^[a-z ]+$"},
    "severity": "warning",
}


def test_a_hand_written_suite_runs_on_rows(tmp_path):
    suite = read_suite(suite_file(tmp_path, WORDS))
    frame = pd.DataFrame({"answer": ["card arrival", "card_arrival", None]})
    (found,) = failures(check(frame, suite, tmp_path / "great_expectations"))
    assert found.verdict is Verdict.WARN
    assert "answer" in found.sentence
    assert "1 of 3 rows" in found.sentence


@pytest.mark.parametrize(
    ("expectation", "sentence"),
    [
        (WORDS, "answers are words (warning): 1 of 2 rows do not"),
        (
            {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 3}, "severity": "warning"},
            "answers are words (warning): it is 2",
        ),
        (
            {"type": "expect_column_distinct_values_to_be_in_set", "kwargs": {"column": "answer", "value_set": ["b"]}},
            "answers are words (critical): 1 values do not: ['a_b']",
        ),
    ],
    ids=["rows", "a number", "values"],
)
def test_a_hand_written_expectation_may_have_words_of_its_own(tmp_path, expectation, sentence):
    suite = read_suite(suite_file(tmp_path, expectation | {"description": "answers are words"}))
    (found,) = failures(check(pd.DataFrame({"answer": ["b", "a_b"]}), suite, tmp_path / "great_expectations"))
    assert found.sentence == sentence


def test_a_check_that_breaks_is_an_error_and_no_verdict_on_the_data(tmp_path):
    suite = read_suite(suite_file(tmp_path, WORDS | {"kwargs": {"column": "missing", "regex": "x"}}))
    (found,) = failures(check(pd.DataFrame({"answer": ["a"]}), suite, tmp_path / "great_expectations"))
    assert found.verdict is Verdict.ERROR
    assert "could not be checked" in found.sentence


@pytest.mark.parametrize("content", ["", "[]", '{"expectations": [{"type": "expect_the_unexpected"}]}'])
def test_a_file_that_is_no_suite_is_named(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(BadInput, match=r"broken\.json: not a suite"):
        read_suite(path)
    with pytest.raises(BadInput, match="no such suite"):
        read_suite(tmp_path / "missing.json")


def test_the_pages_show_everything_without_a_network_and_run_nothing(tmp_path):
    suite = profile_suite({"rows": 5.0}, [Measure(measure="rows", min=100)])
    result = check(pd.DataFrame([{"rows": 5.0}]), suite, tmp_path / "one")
    rows = check(
        pd.DataFrame({"answer": ["<script>x</script>", "<b onclick=x>"]}),
        read_suite(suite_file(tmp_path, WORDS)),
        tmp_path / "two",
    )
    written = pages({"profile": result, "answers": rows}, "app <2026>", Verdict.FAIL, ["rows <b>low</b>"])
    assert list(written) == ["index.html", "answers.html"]
    for page in written.values():
        assert "http://" not in page
        assert "https://" not in page
        assert "<script" not in page
        assert "onclick" not in page.replace("&lt;b onclick", "")
        assert "rows &lt;b&gt;low" in page
    assert "rows must be at least 100 (critical)" in written["index.html"]
    assert 'href="answers.html"' in written["index.html"]
    assert "&lt;script&gt;x&lt;/script&gt;" in written["answers.html"]
