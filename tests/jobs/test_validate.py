"""The job `validate`: one verdict for one content, with its reasons in storage, in MLflow and on a page."""

import json
from pathlib import Path

import pytest
from upath import UPath

from nightshift.data.acceptance import read_acceptance, why_not
from nightshift.errors import BadInput
from nightshift.jobs.ingest import Spec as IngestSpec
from nightshift.jobs.ingest import run as ingest
from nightshift.jobs.validate import Spec, run
from nightshift.settings.application import Application
from nightshift.settings.intake import Measure, Validation
from nightshift.storage.partition import require_manifest
from nightshift.verdict import Verdict

pytestmark = pytest.mark.slow
ROWS = "".join(f"{number},What about thing {number * 7919}?,thing {number % 5}\n" for number in range(60))
INTERVAL = {"start": "2026-11-02T00:00:00Z", "end": "2026-11-03T00:00:00Z"}
WORDS = {
    "type": "expect_column_values_to_match_regex",
    "kwargs": {"column": "answer", "regex": "^[a-z ]+$"},
    "severity": "warning",
}


@pytest.fixture
def judge(storage, wordless_model, progress, mlflow_store, tmp_path):
    """A function that ingests rows (id, text, answer) and judges them under a policy."""

    def run_both(rows=ROWS, **policy):
        drop = tmp_path / "drop.csv"
        drop.write_text("id,text,answer\n" + rows)
        application = Application(
            name="shop",
            base_model=str(wordless_model),
            sources=[{"uri": str(drop), "columns": {"prompt": "text", "answer": "answer", "id": "id"}}],
            validation=Validation(**{"min_rows": 50, **policy}),
        )
        made = ingest(IngestSpec(application=application, storage=storage, interval=INTERVAL), progress)
        spec = Spec(application=application, storage=storage, examples=made.examples, digest=made.digest)
        return spec, run(spec, progress)

    return run_both


def test_good_data_passes_and_may_be_trained_on(judge, mlflow_store):
    spec, result = judge()
    assert result.verdict is Verdict.PASS
    assert result.reasons == ["all 7 expectations hold on 60 examples"]
    assert result.measures["rows"] == 60
    assert result.measures["answered_share"] == 1
    assert result.measures["distinct_answers"] == 5
    assert len(result.measures) == 13
    partition = UPath(spec.examples)
    assert why_not(partition, require_manifest(partition)) is None
    assert "all 7 expectations hold" in UPath(result.data_docs).read_text()

    run_id = result.run_url.rpartition("/")[2]
    logged = mlflow_store.get_run(run_id)
    assert logged.info.run_name == "validate 2026-11-02"
    assert logged.data.tags["nightshift.verdict"] == "PASS"
    assert logged.data.metrics == result.measures
    assert [file.path for file in mlflow_store.list_artifacts(run_id, "data_docs")] == ["data_docs/index.html"]


def test_a_failed_critical_expectation_stops_and_tells_why(judge):
    spec, result = judge(rows=ROWS + "x,,nothing\n" * 6)
    assert result.verdict is Verdict.FAIL
    assert result.reasons == ["quarantined_share must be at most 0.05 (critical): it is 0.09091"]
    partition = UPath(spec.examples)
    assert "FAIL: quarantined_share" in why_not(partition, require_manifest(partition))


def test_a_failed_warning_marks_and_lets_pass(judge):
    expected = Measure(measure="distinct_answers", min=10, severity="warning")
    spec, result = judge(expectations=[expected])
    assert result.verdict is Verdict.WARN
    assert why_not(UPath(spec.examples), require_manifest(UPath(spec.examples))) is None


@pytest.mark.parametrize("rows", [ROWS[:300], "1,,\n"], ids=["few rows", "no usable row"])
def test_too_little_data_is_never_a_pass(judge, rows):
    _, result = judge(rows=rows, expectations=[])
    assert result.verdict is Verdict.INSUFFICIENT_DATA
    assert "fewer than the 50" in result.reasons[0]


def test_judging_again_changes_nothing_and_another_policy_is_another_judgement(judge, progress, mlflow_store):
    spec, first = judge()
    assert run(spec, progress) == first
    stricter = spec.application.model_copy(update={"validation": Validation(min_rows=61)})
    second = run(spec.model_copy(update={"application": stricter}), progress)
    assert second.verdict is Verdict.INSUFFICIENT_DATA
    assert second.data_docs != first.data_docs
    assert second.run_url != first.run_url
    assert read_acceptance(UPath(spec.examples)).verdict is Verdict.INSUFFICIENT_DATA


def test_a_hand_written_suite_has_a_say_and_a_page(judge, project):
    (project / "suites").mkdir()
    (project / "suites" / "words.json").write_text(json.dumps({"expectations": [WORDS]}))
    _, result = judge(suites=["words"])
    assert result.verdict is Verdict.WARN
    assert "60 of 60 rows do not" in result.reasons[0]
    assert (Path(UPath(result.data_docs).path).parent / "words.html").is_file()
    with pytest.raises(BadInput, match=r"missing\.json: there is no such suite"):
        judge(suites=["missing"])


def test_content_that_was_replaced_meanwhile_is_not_judged_under_the_old_digest(judge, progress):
    spec, _ = judge()
    judge(rows=ROWS[:-20])
    with pytest.raises(BadInput, match="was asked for"):
        run(spec, progress)
