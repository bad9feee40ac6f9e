"""Great Expectations over a partition: suites from the application's file and hand-written ones, and the verdict.

The application's expectations are checked on the one-row profile, so that their cost does not depend on the data.
Hand-written suites see all rows, through an engine that computes their metrics in bounded memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.core import ExpectationSuiteValidationResult
from great_expectations.data_context import FileDataContext
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
from great_expectations.validator.validation_statistics import calc_validation_statistics
from great_expectations.validator.validator import Validator

from nightshift.data.partition_engine import PartitionEngine
from nightshift.data.partition_rows import PartitionRows
from nightshift.errors import BadInput
from nightshift.settings.intake import Measure, Validation
from nightshift.verdict import Verdict, worst

PROFILE_SUITE = "profile"
SAMPLE_ROWS = 200_000
RESULT_FORMAT = "SUMMARY"
# Asked for in every application that looks for names: a row that nobody searched is no row without names.
NAMES_SEARCHED = Measure(measure="names_searched_share", min=1, severity="warning")
# What a hand-written suite can refer to; lists and maps of the examples are left out.
SUITE_COLUMNS = (
    "digest", "prompt", "answer", "source", "source_row", "id", "timestamp", "language", "prompt_characters",
    "prompt_tokens", "answer_tokens", "group", "split",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """One expectation that did not hold, or could not be checked."""

    sentence: str
    verdict: Verdict


def profile_suite(measures: Mapping[str, float], expectations: Iterable[Measure]) -> gx.ExpectationSuite:
    """Return a suite over the columns of the profile; what has no value cannot be expected of."""
    expectations = list(expectations)
    if NAMES_SEARCHED.measure not in {expected.measure for expected in expectations}:
        expectations.append(NAMES_SEARCHED)
    return gx.ExpectationSuite(
        name=PROFILE_SUITE,
        expectations=[
            gx.expectations.ExpectColumnMaxToBeBetween(
                column=expected.measure,
                min_value=expected.min,
                max_value=expected.max,
                severity=expected.severity,
                description=f"{expected.measure} {bounds(expected)} ({expected.severity})",
            )
            for expected in expectations
            if expected.measure in measures
        ],
    )


def read_suite(path: Path) -> gx.ExpectationSuite:
    """Return the hand-written suite in a file, in the form that Great Expectations itself writes.

    :raises BadInput: the file is missing or holds no suite.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return gx.ExpectationSuite(name=path.stem, expectations=fields["expectations"], meta=fields.get("meta"))
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such suite; `validation.suites` names it") from None
    except Exception as error:  # Great Expectations raises a different class for each way of being wrong
        raise BadInput(f"{path}: not a suite of Great Expectations: {type(error).__name__}: {error}") from error


def check(frame: pd.DataFrame, suite: gx.ExpectationSuite, folder: Path) -> ExpectationSuiteValidationResult:
    """Return what Great Expectations says of a frame; the files of its project go to the empty `folder`."""
    context = _context(folder)
    asset = context.data_sources.add_pandas("examples").add_dataframe_asset(suite.name)
    batch = asset.add_batch_definition_whole_dataframe("partition").get_batch({"dataframe": frame})
    return _without_numpy(batch.validate(context.suites.add(suite), result_format=RESULT_FORMAT))


def _context(folder: Path) -> FileDataContext:
    context = gx.get_context(mode="file", project_root_dir=folder)
    context.variables.progress_bars = {"globally": False}
    return context


def check_rows(
    examples: Path, suite: gx.ExpectationSuite, folder: Path, names: Sequence[str] = SUITE_COLUMNS
) -> ExpectationSuiteValidationResult:
    """Return what Great Expectations says of all rows of a Parquet file; files on the way go to the empty `folder`.

    Expectations that need more than can be computed from all rows in bounded memory are checked on a sample, and their
    results say so under `sample`.
    """
    context = _context(folder)
    with closing(PartitionRows(examples, names, folder)) as rows:
        engine = PartitionEngine(rows)
        validator = Validator(execution_engine=engine, data_context=context)
        configurations = validator.process_expectations_for_validation(suite.expectation_configurations)
        judged = [(each, _is_covered(each, validator, engine)) for each in configurations]
        covered = [configuration for configuration, on_all_rows in judged if on_all_rows]
        others = [configuration for configuration, on_all_rows in judged if not on_all_rows]
        results = validator.graph_validate(covered, {"result_format": RESULT_FORMAT}) if covered else []
        if others:
            sample = rows.sample(SAMPLE_ROWS, by="digest")
            rest = check(sample, gx.ExpectationSuite(name=suite.name, expectations=others), folder / "sample")
            if len(sample) < rows.count:
                for item in rest.results:
                    item.result["sample"] = f"a sample of {len(sample):,} of {rows.count:,} rows"
            results += rest.results
    statistics = calc_validation_statistics(results)
    return _without_numpy(
        ExpectationSuiteValidationResult(
            success=statistics.success,
            results=results,
            suite_name=suite.name,
            statistics={name: value for name, value in statistics._asdict().items() if name != "success"},
            meta={"great_expectations_version": gx.__version__},
        )
    )


def _is_covered(configuration: ExpectationConfiguration, validator: Validator, engine: PartitionEngine) -> bool:
    """Whether every metric that an expectation asks for can be computed from all rows."""
    runtime = {"result_format": RESULT_FORMAT}
    try:
        needed = configuration.to_domain_obj().get_validation_dependencies(engine, runtime)
        graph = validator.metrics_calculator.build_metric_dependency_graph(needed.get_metric_configurations(), runtime)
        return all(engine.covers(metric) for edge in graph.edges for metric in (edge.left, edge.right) if metric)
    except Exception:  # another class for each way of being wrong
        # Great Expectations says what it is when it checks the expectation.
        return False


def _without_numpy(result: ExpectationSuiteValidationResult) -> ExpectationSuiteValidationResult:
    for item in result.results:
        # Its pages cannot show NumPy's numbers.
        observed = item.result.get("observed_value")
        item.result.update({"observed_value": observed.item()} if hasattr(observed, "item") else {})
    return result


def failures(result: ExpectationSuiteValidationResult) -> list[Outcome]:
    """Return what did not hold, as sentences with the measured number, the bound and the severity."""
    outcomes = []
    for item in result.results:
        config = item.expectation_config
        severity = "critical" if config is None else str(getattr(config.severity, "value", config.severity))
        name = item.expectation_config.description or item.expectation_config.type
        if broken := _exception(item.exception_info):
            outcomes.append(Outcome(f"{name} could not be checked: {broken}", Verdict.ERROR))
        elif not item.success:
            verdict = Verdict.FAIL if severity == "critical" else Verdict.WARN
            outcomes.append(Outcome(_sentence(config, item.result, severity), verdict))
    return outcomes


def decide(
    outcomes: Iterable[Outcome], rows: int, policy: Validation, checked: int, sampled: int = 0
) -> tuple[Verdict, list[str]]:
    """Return the verdict on a partition with its reasons: a pure function of what was found.

    :param rows: examples in the partition.
    :param checked: expectations that were checked.
    :param sampled: those of them that were checked on a sample.
    """
    found = list(outcomes)
    if rows < policy.min_rows:
        found.append(
            Outcome(f"{rows:,} examples, fewer than the {policy.min_rows:,} asked for", Verdict.INSUFFICIENT_DATA)
        )
    found.sort(key=lambda outcome: list(Verdict).index(outcome.verdict), reverse=True)
    if not found:
        part = f", {sampled} of them on a sample" if sampled else ""
        return Verdict.PASS, [f"all {checked} expectations hold on {rows:,} examples{part}"]
    return worst(outcome.verdict for outcome in found), [outcome.sentence for outcome in found]


def bounds(expected: Measure) -> str:
    """Say the accepted range in words."""
    if expected.min is not None and expected.max is not None:
        return f"must lie between {expected.min:g} and {expected.max:g}"
    return f"must be at least {expected.min:g}" if expected.max is None else f"must be at most {expected.max:g}"


def _sentence(config: Any, result: Mapping[str, Any], severity: str) -> str:
    sentence = _found(config, result, severity)
    return f"{sentence} (in {result['sample']})" if "sample" in result else sentence


def _found(config: Any, result: Mapping[str, Any], severity: str) -> str:
    observed = result.get("observed_value")
    if "unexpected_count" in result and "element_count" in result:
        seen = f"{result['unexpected_count']:,} of {result['element_count']:,} rows do not"
    elif "unexpected_count" in result:
        seen = f"{result['unexpected_count']:,} values do not: {str(result.get('partial_unexpected_list', ''))[:200]}"
    else:
        seen = f"it is {observed:.4g}" if isinstance(observed, int | float) else f"observed {observed}"
    if config.description:
        # Those of the profile name measure, bound and severity themselves.
        marked = config.description if f"({severity})" in config.description else f"{config.description} ({severity})"
        return f"{marked}: {seen}"
    column = config.kwargs.get("column")
    expected = {key: value for key, value in config.kwargs.items() if key not in {"column", "batch_id"}}
    return f"{config.type}({f'{column}, ' if column else ''}{expected}) ({severity}): {seen}"


def _exception(info: Mapping[str, Any] | None) -> str | None:
    """The message of an exception in a result; some results hold one record, others one per metric."""
    records = [info, *(value for value in (info or {}).values() if isinstance(value, dict))]
    for record in records:
        if record and record.get("raised_exception"):
            return str(record.get("exception_message"))
    return None
