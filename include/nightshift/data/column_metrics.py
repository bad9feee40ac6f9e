"""Great Expectations' metrics of whole columns, as parts of one query over all rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from great_expectations.validator.metric_configuration import MetricConfiguration

from nightshift.data.map_conditions import row_filter
from nightshift.data.partition_rows import Column, Parameters, PartitionRows

# Great Expectations itself computes these from the different values of a column.
OF_DISTINCT_VALUES = frozenset({
    "column.distinct_values", "column.distinct_values.not_in_set", "column.distinct_values.not_in_set.count",
    "column.distinct_values.missing_from_column", "column.distinct_values.missing_from_column.count",
})  # fmt: skip
MOST_COMMON = "column.most_common_value"
QUANTILES = "column.quantile_values"
MOST_DISTINCT_VALUES = 100_000


@dataclass(frozen=True)
class Aggregate:
    """An expression over `{rows}` whose single value becomes a metric's value by `read`."""

    sql: str
    read: Callable[[Any], Any]


def _plain(value: Any) -> Any:
    """A number of Python's, for Great Expectations' pages cannot show NumPy's; of no values, what pandas says."""
    if pd.isna(value):
        return math.nan
    return value.item() if hasattr(value, "item") else value


def _real(value: Any) -> float:
    return math.nan if pd.isna(value) else float(value)


# `{column}` and `{where}` are filled in.
OF_ANY_COLUMN = {
    "column.non_null_count": Aggregate("count({column}) {where}", int),
    "column.distinct_values.count": Aggregate("count(DISTINCT {column}) {where}", int),
}
OF_ORDERED_COLUMN = {
    "column.min": Aggregate("min({column}) {where}", _plain),
    "column.max": Aggregate("max({column}) {where}", _plain),
}
OF_NUMBERS = {
    "column.sum": Aggregate("coalesce(sum({column}) {where}, 0)", float),
    "column.mean": Aggregate("avg({column}) {where}", _real),
    "column.median": Aggregate("median({column}) {where}", _real),
    "column.standard_deviation": Aggregate("stddev_samp({column}) {where}", _real),
}
OF_INTEGERS = {"column.sum": Aggregate("coalesce(sum({column}) {where}, 0)::BIGINT", int)}


def read_aggregate(metric: MetricConfiguration, rows: PartitionRows, parameters: Parameters) -> Aggregate | None:
    """Return the expression of a metric of the table or of one column; None: there is none, or it is not the same."""
    filtered = row_filter(metric.metric_domain_kwargs, rows, parameters)
    if filtered is None or filtered.sql is None:
        return None
    where = f"FILTER (WHERE {filtered.sql})"
    if metric.metric_name == "table.row_count":
        return Aggregate(f"count(*) {where}", int)
    column = rows.columns.get(metric.metric_domain_kwargs.get("column", ""))
    if column is None:
        return None
    known = dict(OF_ANY_COLUMN)
    if column.kind != "other" or pd.api.types.is_datetime64_any_dtype(column.dtype):
        known |= OF_ORDERED_COLUMN
    if column.kind in {"integer", "real"}:
        known |= OF_NUMBERS | (OF_INTEGERS if column.kind == "integer" else {})
    found = known.get(metric.metric_name)
    return found and Aggregate(found.sql.replace("{column}", column.sql).replace("{where}", where), found.read)


def has_few_values(metric: MetricConfiguration, rows: PartitionRows, parameters: Parameters) -> bool:
    """Whether the different values of a metric's column can be held in memory."""
    filtered = row_filter(metric.metric_domain_kwargs, rows, parameters)
    column = rows.columns.get(metric.metric_domain_kwargs.get("column", ""))
    if filtered is None or filtered.sql is None or column is None:
        return False
    found = rows.query(
        f"SELECT count(*) AS n FROM (SELECT DISTINCT {column.sql} FROM {{rows}} WHERE {filtered.sql}"
        f" LIMIT {MOST_DISTINCT_VALUES + 1})",
        parameters,
    )
    return int(found["n"].iloc[0]) <= MOST_DISTINCT_VALUES


def distinct_values(metric: MetricConfiguration, rows: PartitionRows, parameters: Parameters) -> pd.DataFrame:
    """Return the different values of a metric's column, a missing one included; for the mode, the most frequent ones."""
    column, where = _column_and_filter(metric, rows, parameters)
    query = f"SELECT {column.sql} FROM {{rows}} WHERE {where} GROUP BY {column.sql}"
    if metric.metric_name == MOST_COMMON:
        counted = f"SELECT {column.sql}, count({column.sql}) AS n FROM {{rows}} WHERE {where} GROUP BY {column.sql}"
        query = f"WITH counted AS ({counted}) SELECT {column.sql} FROM counted WHERE n = (SELECT max(n) FROM counted)"
    return rows.query(query, parameters).astype({column.name: column.dtype})


def has_quantiles(metric: MetricConfiguration, rows: PartitionRows, parameters: Parameters) -> bool:
    """Whether the quantiles that a metric asks for are values of the column."""
    filtered = row_filter(metric.metric_domain_kwargs, rows, parameters)
    column = rows.columns.get(metric.metric_domain_kwargs.get("column", ""))
    exact = (metric.metric_value_kwargs.get("allow_relative_error") or "nearest") in {"nearest", "lower", "higher"}
    return bool(exact and column and column.is_number and filtered and filtered.sql)


def quantiles(metric: MetricConfiguration, rows: PartitionRows, parameters: Parameters) -> list[float]:
    """Return the values at the quantiles of a column: places in its order, found as `numpy.quantile` finds them."""
    column, where = _column_and_filter(metric, rows, parameters)
    present = f"{{rows}} WHERE {where} AND {column.sql} IS NOT NULL"
    count = int(rows.query(f"SELECT count(*) AS n FROM {present}", parameters)["n"].iloc[0])
    asked: Sequence[float] = metric.metric_value_kwargs["quantiles"]
    if not count:
        return [math.nan for _ in asked]
    rounded = {"lower": math.floor, "higher": math.ceil}.get(
        metric.metric_value_kwargs.get("allow_relative_error") or "nearest", round
    )
    places = [int(rounded((count - 1) * share)) for share in asked]
    ordered = f"SELECT {column.sql} AS value, row_number() OVER (ORDER BY {column.sql}) - 1 AS place FROM {present}"
    chosen = ", ".join(map(str, sorted(set(places))))
    found = rows.query(f"SELECT place, value FROM ({ordered}) WHERE place IN ({chosen})", parameters)
    values = dict(zip(found["place"].tolist(), found["value"].tolist(), strict=True))
    return [values[place] for place in places]


def _column_and_filter(metric: MetricConfiguration, rows: PartitionRows, parameters: Parameters) -> tuple[Column, str]:
    filtered = row_filter(metric.metric_domain_kwargs, rows, parameters)
    return rows.columns[metric.metric_domain_kwargs["column"]], str(filtered and filtered.sql)
