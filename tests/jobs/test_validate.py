"""The job `validate`: one verdict for one content, with its reasons in storage, in MLflow and on a page."""

import json
from importlib.util import find_spec
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
from nightshift.storage.manifest import require_manifest
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

    def run_both(rows=ROWS, names=None, **policy):
        drop = tmp_path / "drop.csv"
        drop.write_text("id,text,answer\n" + rows)
        application = Application(
            name="shop",
            base_model=str(wordless_model),
            sources=[{"uri": str(drop), "columns": {"prompt": "text", "answer": "answer", "id": "id"}}],
            ingest={"names": names},
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


@pytest.mark.skipif(find_spec("presidio_analyzer") is None, reason="needs the extra: pip install -e '.[presidio]'")
def test_rows_that_no_model_searched_for_names_are_kept_counted_and_no_pass(judge, progress, tmp_path):
    import spacy

    pipeline = spacy.blank("en", meta={"name": "rules", "version": "1.0"})
    labels = {"PERSON": "Ada", "GPE": "Berlin"}
    pipeline.add_pipe("entity_ruler").add_patterns([{"label": one, "pattern": text} for one, text in labels.items()])
    pipeline.to_disk(tmp_path / "model")
    english = [f"{n},My name is Ada and I am waiting for order {n} since last week.,late {n}\n" for n in range(56)]
    german = [
        f"{n},Ich heiße Ada und warte seit letzter Woche auf die Bestellung {n}.,late {n}\n" for n in range(56, 60)
    ]
    rows, models = "".join(english + german), {"en": str(tmp_path / "model")}
    spec, result = judge(rows=rows, names={"models": models}, expectations=[])
    assert result.verdict is Verdict.WARN
    assert result.reasons == ["names_searched_share must be at least 1 (warning): it is 0.9333"]
    manifest = require_manifest(UPath(spec.examples), spec.digest)
    assert (manifest.counts["kept"], manifest.facts["pii"]) == (60, {"person": 56})
    assert manifest.facts["names_not_searched"] == {"de": 4}
    made = ingest(IngestSpec(application=spec.application, storage=spec.storage, interval=INTERVAL), progress)
    assert "4 not searched for names, for lack of a model (de 4)" in made.reason
    assert made.digest == spec.digest  # it is the same partition: nothing was done again

    tolerant = [{"measure": "names_searched_share", "min": 0.9}]
    assert judge(rows=rows, names={"models": models}, expectations=tolerant)[1].verdict is Verdict.PASS
    _, result = judge(rows=rows, names={"models": {**models, "other": models["en"]}}, expectations=[])
    assert (result.verdict, result.measures["names_searched_share"]) == (Verdict.PASS, 1.0)

    pipeline.meta["version"] = "1.1"
    pipeline.to_disk(tmp_path / "model")
    again, _ = judge(rows=rows, names={"models": models})
    inputs = require_manifest(UPath(again.examples), again.digest).inputs
    assert inputs["names"]["models"]["en"]["version"] == "1.1"
    assert str(tmp_path / "model") not in json.dumps(inputs)
