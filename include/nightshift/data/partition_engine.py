"""Great Expectations over all rows of a partition: it decides, and this engine gives it the metrics that it asks for.

Counts and aggregates come from one query over the Parquet file, the first unexpected rows with them. Conditions that DuckDB
would judge otherwise are judged by Great Expectations itself, batch by batch. Metrics that all rows together decide and
that are neither are not covered: their expectations are run on a sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import duckdb
import numpy as np
import pandas as pd
from great_expectations.exceptions import MetricResolutionError
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.validator.metric_configuration import MetricConfiguration

from nightshift.data.column_metrics import (
    MOST_COMMON,
    OF_DISTINCT_VALUES,
    QUANTILES,
    Aggregate,
    distinct_values,
    has_few_values,
    has_quantiles,
    quantiles,
    read_aggregate,
)
from nightshift.data.map_conditions import SUFFIX, MapCondition, read_map_condition
from nightshift.data.partition_rows import ROW, Parameters, PartitionRows

SHOWN_ROWS = 20  # unexpected ones of an expectation, as many as a result of the format SUMMARY shows
ROWS_COMPARED = (
    10_000_000  # by whether their values repeat, at once: so many values outgrow the memory, and still spill
)
COUNT, DOMAIN, QUERY = ".unexpected_count", ".filtered_row_count", ".unexpected_index_query"
OF_ROWS = (".unexpected_values", ".unexpected_index_list")
# Great Expectations computes these from other metrics.
DERIVED = frozenset({
    "table.column_count", "column.unique_proportion", "column.non_null_proportion",
    "column_values.nonnull.count", "column_values.null.count",
})  # fmt: skip
LENGTHS = "column_values.value_length.map"


@dataclass
class Judged:
    """What a condition found: unexpected rows, the numbers of the first ones, and the rows that it is about."""

    unexpected: int = 0
    first: list[int] = field(default_factory=list)
    domain: int = 0


class PartitionEngine(PandasExecutionEngine):
    """An engine whose batch is all rows of a Parquet file, none of which it holds."""

    def __init__(self, rows: PartitionRows) -> None:
        super().__init__()
        self._rows = rows
        self._parameters = Parameters()
        self._conditions: dict[Any, MapCondition | None] = {}
        self._covered: dict[Any, bool] = {}
        self._values: dict[Any, Any] = {}

    def covers(self, metric: MetricConfiguration) -> bool:
        """Return whether a metric can be computed from all rows, as Great Expectations on pandas would."""
        if metric.id not in self._covered:
            self._covered[metric.id] = self._covers(metric)
        return self._covered[metric.id]

    def _covers(self, metric: MetricConfiguration) -> bool:
        name = metric.metric_name
        if name in DERIVED | {"table.columns", "table.column_types", LENGTHS}:
            return True
        if name.endswith(SUFFIX):
            return self._condition(metric) is not None
        if name.endswith((COUNT, DOMAIN, QUERY, *OF_ROWS)):
            return all(map(self.covers, metric.metric_dependencies.values()))
        if name in OF_DISTINCT_VALUES or name == MOST_COMMON:
            return has_few_values(metric, self._rows, self._parameters)
        if name == QUANTILES:
            return has_quantiles(metric, self._rows, self._parameters)
        return read_aggregate(metric, self._rows, self._parameters) is not None

    def resolve_metrics(
        self,
        metrics_to_resolve: Iterable[MetricConfiguration],
        metrics: dict[Any, Any] | None = None,
        runtime_configuration: dict[str, Any] | None = None,
    ) -> dict[Any, Any]:
        """Return the values of metrics, by their ids.

        What needs no rows comes first and alone: then all that needs some is asked for at once, and answered together.
        """
        wanted = list(metrics_to_resolve)
        if not wanted:
            return metrics or {}
        light = {
            metric.id: self._light(metric, metrics, runtime_configuration)
            for metric in wanted
            if metric.metric_name in DERIVED | {"table.columns", "table.column_types", LENGTHS}
            or metric.metric_name.endswith((SUFFIX, QUERY))
        }
        if light:
            return light
        self._answer([metric for metric in wanted if metric.id not in self._values])
        found = {metric.id: self._values[metric.id] for metric in wanted}
        good = {key: value for key, value in found.items() if not isinstance(value, Exception)}
        if good:
            return good
        # One reason at a time: Great Expectations asks again for the others.
        reason = str(found[wanted[0].id])
        failed = tuple(metric for metric in wanted if str(found[metric.id]) == reason)
        raise MetricResolutionError(message=reason, failed_metrics=failed)

    def _condition(self, metric: MetricConfiguration) -> MapCondition | None:
        if metric.id not in self._conditions:
            self._conditions[metric.id] = read_map_condition(metric, self._rows, self._parameters)
        return self._conditions[metric.id]

    def _light(self, metric: MetricConfiguration, metrics: Any, runtime_configuration: Any) -> Any:
        if metric.metric_name == "table.columns":
            return list(self._rows.columns)
        if metric.metric_name == "table.column_types":
            return [{"name": column.name, "type": column.dtype} for column in self._rows.columns.values()]
        if metric.metric_name in DERIVED:
            return super().resolve_metrics([metric], metrics, runtime_configuration)[metric.id]
        return None

    def _answer(self, metrics: list[MetricConfiguration]) -> None:
        """Compute the values of metrics that are covered; what cannot be computed after all has its exception instead."""
        conditions: dict[Any, MapCondition] = {}
        aggregates: dict[Any, Aggregate] = {}
        for metric in metrics:
            asked = metric.metric_dependencies.get("unexpected_condition")
            if asked is not None:
                conditions[asked.id] = cast(MapCondition, self._condition(asked))
            elif metric.metric_name in OF_DISTINCT_VALUES or metric.metric_name == MOST_COMMON:
                self._values[metric.id] = _tried(self._of_distinct_values, metric)
            elif metric.metric_name == QUANTILES:
                self._values[metric.id] = _tried(quantiles, metric, self._rows, self._parameters)
            else:
                aggregates[metric.id] = cast(Aggregate, read_aggregate(metric, self._rows, self._parameters))
        judged = self._judge(conditions, aggregates)
        shown = [metric for metric in metrics if "unexpected_condition" in metric.metric_dependencies]
        self._describe(shown, conditions, judged)

    def _judge(
        self, conditions: dict[Any, MapCondition], aggregates: dict[Any, Aggregate]
    ) -> dict[Any, Judged | Exception]:
        """Judge all rows by all conditions; the values of the aggregates come from the same query."""
        in_sql = {key: condition for key, condition in conditions.items() if condition.unexpected is not None}
        judged: dict[Any, Judged | Exception] = {}
        try:
            judged |= self._query(in_sql, aggregates)
        except duckdb.Error:
            # Which of them it was is found one by one.
            for key, condition in in_sql.items():
                found = _tried(self._query, {key: condition}, {})
                judged[key] = found[key] if isinstance(found, dict) else found
            for key, aggregate in aggregates.items():
                found = _tried(self._query, {}, {key: aggregate})
                self._values |= {} if isinstance(found, dict) else {key: found}
        for key, condition in conditions.items():
            if condition.repeats:
                judged[key] = _tried(self._repeated, condition)
        return judged | self._in_batches(
            {key: each for key, each in conditions.items() if each.unexpected is None and not each.repeats}
        )

    def _query(self, conditions: dict[Any, MapCondition], aggregates: dict[Any, Aggregate]) -> dict[Any, Judged]:
        tests, asked = [], []
        for number, condition in enumerate(conditions.values()):
            tests.append(f"{condition.unexpected} AS unexpected_{number}")
            # A filter on each aggregate would take a tenth longer.
            first = f"min(if(unexpected_{number}, {ROW}, NULL), {SHOWN_ROWS}) AS first_{number}"
            asked.append(f"coalesce(count_if(unexpected_{number}), 0) AS count_{number}, {first}")
        domains = list(dict.fromkeys(condition.domain for condition in conditions.values()))
        asked += [f"coalesce(count_if({domain}), 0) AS rows_{number}" for number, domain in enumerate(domains)]
        asked += [f"{aggregate.sql} AS value_{number}" for number, aggregate in enumerate(aggregates.values())]
        if not asked:
            return {}
        query = f"SELECT {', '.join(asked)} FROM (SELECT *{''.join(f', {test}' for test in tests)} FROM {{rows}})"
        found = self._rows.query(query, self._parameters)
        for number, (key, aggregate) in enumerate(aggregates.items()):
            self._values[key] = aggregate.read(found[f"value_{number}"].iloc[0])
        return {
            key: Judged(
                int(found[f"count_{number}"].iloc[0]),
                _numbers(found[f"first_{number}"].iloc[0]),
                int(found[f"rows_{domains.index(condition.domain)}"].iloc[0]),
            )
            for number, (key, condition) in enumerate(conditions.items())
        }

    def _repeated(self, condition: MapCondition) -> Judged:
        names = [self._rows.columns[name].sql for name in condition.names]
        keys = ", ".join(names)
        same = " AND ".join(f"present.{name} IS NOT DISTINCT FROM repeated.{name}" for name in names)
        judged, parts = Judged(), math.ceil(self._rows.count / ROWS_COMPARED)
        for part in range(parts):
            # Equal values are in one part.
            where = f"{condition.domain} AND hash({keys}) % {parts} = {part}"
            # Mostly nothing repeats, which hashes tell in a fraction of the time that values take.
            hashed = self._rows.query(
                f"SELECT coalesce(sum(n), 0)::BIGINT AS present, coalesce(max(n), 0) AS most"
                f" FROM (SELECT count(*) AS n FROM {{rows}} WHERE {where} GROUP BY hash({keys}))",
                self._parameters,
            ).iloc[0]
            judged.domain += int(hashed["present"])
            if hashed["most"] < 2:
                continue
            found = self._rows.query(
                f"WITH present AS (SELECT {keys}, {ROW} FROM {{rows}} WHERE {where}),"
                f" repeated AS (SELECT {keys} FROM present GROUP BY ALL HAVING count(*) > 1)"
                f" SELECT count(*) AS n, min({ROW}, {SHOWN_ROWS}) AS first FROM present SEMI JOIN repeated ON {same}",
                self._parameters,
            ).iloc[0]
            judged.unexpected += int(found["n"])
            judged.first = sorted([*judged.first, *_numbers(found["first"])])[:SHOWN_ROWS]
        return judged

    def _in_batches(self, conditions: dict[Any, MapCondition]) -> dict[Any, Judged | Exception]:
        judged: dict[Any, Judged | Exception] = {key: Judged() for key in conditions}
        names = frozenset[str]().union(*(condition.columns for condition in conditions.values()))
        for frame in self._rows.batches(names) if conditions else ():
            for key, condition in conditions.items():
                so_far = judged[key]
                if isinstance(so_far, Exception):
                    continue
                found = _tried(_judged, condition.metric, frame)
                if isinstance(found, Exception):
                    judged[key] = found
                    continue
                so_far.unexpected += found.unexpected
                so_far.domain += found.domain
                so_far.first += found.first[: SHOWN_ROWS - len(so_far.first)]
        return judged

    def _describe(
        self,
        metrics: list[MetricConfiguration],
        conditions: dict[Any, MapCondition],
        judged: dict[Any, Judged | Exception],
    ) -> None:
        """Set the values of metrics of conditions; rows are shown as Great Expectations shows those of a frame."""
        found = {key: each for key, each in judged.items() if isinstance(each, Judged) and each.first}
        numbers = [number for each in found.values() for number in each.first]
        frame = self._rows.frame(numbers, [name for key in found for name in conditions[key].names])
        nothing = self._rows.frame([], [name for condition in conditions.values() for name in condition.names])
        for metric in metrics:
            asked = metric.metric_dependencies["unexpected_condition"]
            each = judged[asked.id]
            if isinstance(each, Exception):
                self._values[metric.id] = each
            elif metric.metric_name.endswith(COUNT):
                self._values[metric.id] = each.unexpected
            elif metric.metric_name.endswith(DOMAIN):
                self._values[metric.id] = each.domain
            else:
                rows = frame.loc[each.first] if each.first else nothing
                domain = {
                    key: value
                    for key, value in metric.metric_domain_kwargs.items()
                    if key in {"column", "column_A", "column_B", "column_list"}
                }
                known: dict[Any, Any] = {asked.id: (pd.Series(True, index=rows.index, dtype=bool), {}, domain)}
                self._values[metric.id] = _tried(_on_frame, metric, rows, known)

    def _of_distinct_values(self, metric: MetricConfiguration) -> Any:
        alone = MetricConfiguration(
            metric.metric_name, {"column": metric.metric_domain_kwargs["column"]}, metric.metric_value_kwargs
        )
        alone.metric_dependencies = metric.metric_dependencies
        return _on_frame(alone, distinct_values(metric, self._rows, self._parameters))


def _on_frame(metric: MetricConfiguration, frame: pd.DataFrame, known: dict[Any, Any] | None = None) -> Any:
    """Return what Great Expectations on pandas makes of a metric on some rows."""
    engine = PandasExecutionEngine()
    engine.load_batch_data("rows", frame)
    values = dict(known or {})
    # Other metrics name these; the condition on rows that they carry may be about columns that the frame has not.
    of_table = {
        "table.columns": list(frame.columns),
        "table.column_types": [{"name": name, "type": dtype} for name, dtype in frame.dtypes.items()],
        "table.row_count": len(frame),
    }

    def resolve(asked: MetricConfiguration) -> Any:
        if asked.id not in values:
            if asked.metric_name in of_table:
                values[asked.id] = of_table[asked.metric_name]
            else:
                for dependency in asked.metric_dependencies.values():
                    resolve(dependency)
                values.update(engine.resolve_metrics([asked], values))
        return values[asked.id]

    return resolve(metric)


def _judged(condition: MetricConfiguration, frame: pd.DataFrame) -> Judged:
    """Return what a condition finds in some rows, as Great Expectations on pandas counts it."""
    unexpected = _on_frame(condition, frame)[0]
    first = unexpected.index[unexpected == True][:SHOWN_ROWS].tolist()  # noqa: E712
    return Judged(int(np.count_nonzero(unexpected)), first, len(unexpected))


def _tried(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return a function's result, or the exception that it raises: one metric that fails keeps none of the others."""
    try:
        return function(*arguments)
    except Exception as error:  # functions of Great Expectations raise a different class for each way of being wrong
        return error


def _numbers(first: Any) -> list[int]:
    return [] if first is None or np.ndim(first) == 0 else [int(number) for number in first]
