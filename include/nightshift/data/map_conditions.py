"""The conditions of Great Expectations' map metrics: which rows of a partition are unexpected.

A condition is answered in SQL only where DuckDB is known to judge every row as Great Expectations on pandas does: by the
type of the column and of what it is compared with. Any other condition on single rows is left to Great Expectations itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import duckdb
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.row_conditions import Condition, PassThroughCondition, deserialize_row_condition
from great_expectations.validator.metric_configuration import MetricConfiguration

from nightshift.data.partition_rows import Column, Parameters, PartitionRows, is_plain_number
from nightshift.data.regexes import to_re2
from nightshift.data.row_conditions import ALL_ROWS, RowCondition, read_condition

SUFFIX = ".condition"
# Conditions that look at one row at a time, so that a part of the rows is judged as all of them are.
ROW_WISE = frozenset({
    "column_values.between", "column_values.dateutil_parseable", "column_values.in_set", "column_values.in_type_list",
    "column_values.json_parseable", "column_values.match_json_schema", "column_values.match_regex",
    "column_values.match_regex_list", "column_values.match_strftime_format", "column_values.nonnull",
    "column_values.not_in_set", "column_values.not_match_regex", "column_values.not_match_regex_list",
    "column_values.null", "column_values.of_type", "column_values.value_length.between",
    "column_values.value_length.equals", "column_pair_values.a_greater_than_b", "column_pair_values.equal",
    "column_pair_values.in_set", "multicolumn_sum.equal", "multicolumn_values.equal",
    "select_column_values.unique.within_record",
})  # fmt: skip
REPEATS = frozenset({"column_values.unique", "compound_columns.unique"})
MISSING = {
    "both_values_are_missing": " AND ", "all_values_are_missing": " AND ",
    "either_value_is_missing": " OR ", "any_value_is_missing": " OR ",
}  # fmt: skip
MOST_VALUES = 1_000  # of a set that becomes part of a query


@dataclass(frozen=True)
class MapCondition:
    """Which rows a map metric is about and which of them are unexpected.

    :ivar domain: SQL of the rows that it is about; null values of a column are left out only where pandas filters them.
    :ivar unexpected: SQL, never null; None: Great Expectations judges the rows, batch by batch.
    :ivar repeats: unexpected are the rows whose values in these columns occur more than once.
    """

    metric: MetricConfiguration
    names: tuple[str, ...]
    columns: frozenset[str]
    domain: str | None
    unexpected: str | None
    repeats: bool


def row_filter(domain: Mapping[str, Any], rows: PartitionRows, parameters: Parameters) -> RowCondition | None:
    """Return the `row_condition` of a metric; None: it is not one about single rows."""
    condition = domain.get("row_condition")
    if not condition:
        return ALL_ROWS
    if isinstance(condition, dict):
        condition = deserialize_row_condition(condition)
    if isinstance(condition, PassThroughCondition):
        condition = condition.pass_through_filter
    elif isinstance(condition, Condition):
        condition = PandasExecutionEngine().condition_to_filter_clause(condition)
    elif domain.get("condition_parser") != "pandas":
        return None
    return read_condition(condition, rows.columns, parameters) if isinstance(condition, str) else None


def read_map_condition(metric: MetricConfiguration, rows: PartitionRows, parameters: Parameters) -> MapCondition | None:
    """Return the condition of a metric `<name>.condition`; None: all rows together decide, or a column is not there."""
    name = metric.metric_name.removesuffix(SUFFIX)
    domain = metric.metric_domain_kwargs
    names = _names(domain)
    filtered = row_filter(domain, rows, parameters)
    if name not in ROW_WISE | REPEATS or not names or filtered is None or not set(names) <= set(rows.columns):
        return None
    columns = [rows.columns[column] for column in names]
    present = None if filtered.sql is None else f"({filtered.sql} AND {_present(name, columns, domain)})"
    if name in REPEATS:
        return MapCondition(metric, names, filtered.columns | set(names), present, None, True) if present else None
    holds = _holds(name, columns, metric.metric_value_kwargs, rows, parameters) if present else None
    unexpected = holds and f"({present} AND NOT {holds})"
    return MapCondition(metric, names, filtered.columns | set(names), present, unexpected, False)


def _names(domain: Mapping[str, Any]) -> tuple[str, ...]:
    if "column" in domain:
        return (domain["column"],)
    if "column_A" in domain:
        return (domain["column_A"], domain["column_B"])
    return tuple(domain.get("column_list") or ())


def _present(name: str, columns: list[Column], domain: Mapping[str, Any]) -> str:
    """The rows that are not left out for what is missing in them."""
    if len(columns) == 1 and "column" in domain:
        return "TRUE" if name in {"column_values.nonnull", "column_values.null"} else f"{columns[0].sql} IS NOT NULL"
    word = MISSING.get(str(domain.get("ignore_row_if")))
    return f"NOT ({word.join(f'{column.sql} IS NULL' for column in columns)})" if word else "TRUE"


def _holds(  # noqa: PLR0911, PLR0912 - a table
    name: str, columns: list[Column], values: Mapping[str, Any], rows: PartitionRows, parameters: Parameters
) -> str | None:
    """SQL of what is expected of a row that is present; None: DuckDB might judge otherwise."""
    column = columns[0]
    numbers = all(each.is_number for each in columns)
    texts = all(each.kind == "text" for each in columns)
    match name:
        case "column_values.nonnull":
            return f"({column.sql} IS NOT NULL)"
        case "column_values.null":
            return f"({column.sql} IS NULL)"
        case "column_values.match_regex":
            return _matches(column, [values["regex"]], " OR ", rows, parameters)
        case "column_values.not_match_regex":
            return _negated(_matches(column, [values["regex"]], " OR ", rows, parameters))
        case "column_values.match_regex_list" if values.get("match_on") in {"any", "all"}:
            word = " OR " if values["match_on"] == "any" else " AND "
            return _matches(column, values["regex_list"], word, rows, parameters)
        case "column_values.not_match_regex_list":
            return _negated(_matches(column, values["regex_list"], " OR ", rows, parameters))
        case "column_values.in_set":
            return _in_set(column, values["value_set"], parameters)
        case "column_values.not_in_set":
            return _negated(_in_set(column, values["value_set"], parameters))
        case "column_values.between":
            return _between(column.sql, values, lambda bound: _comparable(column, bound), parameters)
        case "column_values.value_length.between" if texts:
            return _between(f"length({column.sql})", values, is_plain_number, parameters)
        case "column_values.value_length.equals" if texts and is_plain_number(values["value"]):
            return f"(length({column.sql}) = {parameters.add(values['value'])})"
        case "column_pair_values.equal" if numbers or texts:
            return f"coalesce({column.sql} = {columns[1].sql}, FALSE)"
        case "column_pair_values.a_greater_than_b" if numbers:
            sign = ">=" if values.get("or_equal") else ">"
            return f"coalesce({column.sql} {sign} {columns[1].sql}, FALSE)"
        case "select_column_values.unique.within_record" if numbers or texts:
            pairs = [f"{one.sql} IS DISTINCT FROM {other.sql}" for one, other in combinations(columns, 2)]
            return f"({' AND '.join(pairs)})"
    return None


def _negated(holds: str | None) -> str | None:
    return holds and f"(NOT {holds})"


def _comparable(column: Column, value: object) -> bool:
    """Whether a value that is present compares with a constant in DuckDB as in pandas."""
    return isinstance(value, str) if column.kind == "text" else column.kind != "other" and is_plain_number(value)


def _matches(column: Column, patterns: list[str], word: str, rows: PartitionRows, parameters: Parameters) -> str | None:
    if column.kind != "text" or not patterns:
        return None
    found = []
    for pattern in patterns:
        try:
            written = to_re2(pattern)
            if written is None:
                return None
            rows.query("SELECT regexp_matches('', $pattern)", {"pattern": written})
        except (re.error, duckdb.Error, TypeError, RecursionError):
            return None  # a broken one breaks in Great Expectations too; some are too large for RE2
        found.append(f"regexp_matches({column.sql}, {parameters.add(written)})")
    return f"({word.join(found)})"


def _in_set(column: Column, members: Any, parameters: Parameters) -> str | None:
    if not isinstance(members, list | tuple | set) or len(members) > MOST_VALUES:
        return None
    # To pandas a text equals no number; what else may equal what is left to it.
    kept = [value for value in members if not (column.kind == "text" and is_plain_number(value)) and value is not None]
    if not all(_comparable(column, value) for value in kept):
        return None
    return f"({column.sql} IN ({', '.join(parameters.add(value) for value in kept)}))" if kept else "FALSE"


def _between(value: str, values: Mapping[str, Any], comparable: Any, parameters: Parameters) -> str | None:
    low, high = values.get("min_value"), values.get("max_value")
    bounds = [bound for bound in (low, high) if bound is not None]
    if not bounds or not all(map(comparable, bounds)) or (len(bounds) == 2 and low > high):  # type: ignore[operator]
        return None
    parts = []
    if low is not None:
        parts.append(f"{value} {'>' if values.get('strict_min') else '>='} {parameters.add(low)}")
    if high is not None:
        parts.append(f"{value} {'<' if values.get('strict_max') else '<='} {parameters.add(high)}")
    return f"({' AND '.join(parts)})"
