"""The `row_condition` of an expectation: which rows it is about, as pandas' query says it and in SQL.

Only conditions that look at one row at a time can be answered batch by batch: names of columns, constants, comparisons,
`in`, `isnull()`, `and`, `or`, `not`. Others (`answer_tokens > answer_tokens.mean()`) are refused here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass

from nightshift.data.partition_rows import Column, Parameters

COMPARISONS = {ast.Eq: "=", ast.NotEq: "<>", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
NULLITY = {"isnull": "IS NULL", "isna": "IS NULL", "notnull": "IS NOT NULL", "notna": "IS NOT NULL"}


@dataclass(frozen=True)
class RowCondition:
    """A condition on single rows; `sql` is true or false, never null, and None where DuckDB would judge otherwise."""

    columns: frozenset[str]
    sql: str | None


ALL_ROWS = RowCondition(frozenset(), "TRUE")


def read_condition(query: str, columns: Mapping[str, Column], parameters: Parameters) -> RowCondition | None:
    """Return what a query of pandas means; None: it is not one about single rows of these columns."""
    if re.search(r"[`@]", query):  # names of another kind, variables
        return None
    try:
        tree = ast.parse(query.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        return None
    return _read(tree, columns, parameters)


def _read(  # noqa: PLR0911 - a table
    node: ast.expr, columns: Mapping[str, Column], parameters: Parameters
) -> RowCondition | None:
    match node:
        case ast.BoolOp():
            return _joined(" AND " if isinstance(node.op, ast.And) else " OR ", node.values, columns, parameters)
        case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr() as sign, right=right):
            return _joined(" AND " if isinstance(sign, ast.BitAnd) else " OR ", [left, right], columns, parameters)
        case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
            inner = _read(operand, columns, parameters)
            return inner and RowCondition(inner.columns, inner.sql and f"(NOT {inner.sql})")
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method), args=[], keywords=[]):
            if name in columns and method in NULLITY:
                return RowCondition(frozenset({name}), f"({columns[name].sql} {NULLITY[method]})")
        case ast.Compare(left=ast.Name(id=name), ops=[sign], comparators=[right]) if name in columns:
            try:
                value = ast.literal_eval(right)
            except (ValueError, TypeError):  # `{[1]}` is no constant, but its parts are
                return None
            return RowCondition(frozenset({name}), _comparison(columns[name], sign, value, parameters))
    return None


def _joined(
    word: str, parts: list[ast.expr], columns: Mapping[str, Column], parameters: Parameters
) -> RowCondition | None:
    read = [_read(part, columns, parameters) for part in parts]
    found = [part for part in read if part is not None]
    if len(found) < len(read):
        return None
    texts = [part.sql for part in found if part.sql is not None]
    names = frozenset[str]().union(*(part.columns for part in found))
    return RowCondition(names, f"({word.join(texts)})" if len(texts) == len(found) else None)


def _comparison(column: Column, sign: ast.cmpop, value: object, parameters: Parameters) -> str | None:
    """In pandas a missing value equals nothing and is neither smaller nor greater."""
    if isinstance(sign, ast.In | ast.NotIn):
        if not isinstance(value, list | tuple) or not value or not all(column.compares_with(item) for item in value):
            return None
        found = f"{column.sql} IN ({', '.join(parameters.add(item) for item in value)})"
        return f"coalesce({found}, FALSE)" if isinstance(sign, ast.In) else f"(NOT coalesce({found}, FALSE))"
    ordered = not isinstance(sign, ast.Eq | ast.NotEq)
    if not column.compares_with(value) or (ordered and column.kind == "text"):
        return None
    missing = "TRUE" if isinstance(sign, ast.NotEq) else "FALSE"
    return f"coalesce({column.sql} {COMPARISONS[type(sign)]} {parameters.add(value)}, {missing})"
