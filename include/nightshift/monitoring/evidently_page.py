"""Evidently's page of two samples, with a section of ours before it.

Evidently writes names and categories into a script of its page as they are, so that a category with `</script>` in it
would run as code (0.7.23, `dashboard_info_to_json`). It is given no text that could: categories are shown without signs
of HTML, prompts and responses not at all. A content security policy keeps the page from loading anything.
"""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

# Read when Evidently is imported: without it, every report is told to a server.
os.environ["DO_NOT_TRACK"] = "1"

import numpy as np
import pandas as pd
import pyarrow as pa
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

from nightshift.settings.metrics import Metric
from nightshift.settings.policies import Drift
from nightshift.shown import shown

CATEGORY_CHARACTERS = 80
POLICY = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:\">"
)
_HARMLESS = str.maketrans({"<": "\u2039", ">": "\u203a", "&": "\uff06"})


def compare_samples(
    current: pa.Table, reference: pa.Table, metrics: list[Metric], policy: Drift
) -> tuple[str, dict[str, Any]]:
    """Return Evidently's page of the columns that both samples have values of, and its numbers.

    A column with one value, the same on both sides, is left out: its picture would say nothing.

    Distances are those of our verdicts (Wasserstein over the standard deviation, Jensen-Shannon) with the floor of WARN,
    on the samples alone.

    :raises ValueError: there is no such column.
    """
    frames = [_frame(table, metrics) for table in (current, reference)]
    columns = [name for name in frames[0] if _differ(*(frame[name].dropna().unique() for frame in frames))]
    if not columns:
        raise ValueError("sample and reference share no column that differs between rows")
    categorical = [metric.label for metric in metrics if metric.categorical and metric.label in columns]
    definition = DataDefinition(
        numerical_columns=[name for name in columns if name not in categorical], categorical_columns=categorical
    )
    datasets = [Dataset.from_pandas(frame[columns], data_definition=definition) for frame in frames]
    preset = DataDriftPreset(
        num_method="wasserstein", cat_method="jensenshannon", num_threshold=policy.warn, cat_threshold=policy.warn
    )
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        snapshot = Report([preset]).run(*datasets)
        return snapshot.get_html_str(as_iframe=False), json.loads(snapshot.json())


def with_section(page: str, head: str, section: str) -> str:
    """Return a page with something added to the start of its head and of its body, both as HTML.

    :raises ValueError: the page has no head or body: Evidently's pages of 0.7.23 have.
    """
    for tag, addition in (("<head>", head), ("<body>", section)):
        before, found, after = page.partition(tag)
        if not found:
            raise ValueError(f"the page has no {tag}")
        page = f"{before}{tag}{addition}{after}"
    return page


def _differ(one: Any, other: Any) -> bool:
    """Whether two columns, given their different values, are worth a picture."""
    return len(one) > 0 and len(other) > 0 and not (len(one) == len(other) == 1 and one[0] == other[0])


def _frame(table: pa.Table, metrics: list[Metric]) -> pd.DataFrame:
    columns = {}
    for metric in metrics:
        values = table[metric].to_pandas()
        if metric.categorical:
            columns[metric.label] = values.map(
                lambda value: None if value is None else shown(value, CATEGORY_CHARACTERS).translate(_HARMLESS)
            )
        else:
            columns[metric.label] = values.astype("float64")
    return pd.DataFrame(columns)
