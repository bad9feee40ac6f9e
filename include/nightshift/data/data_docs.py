"""Great Expectations' pages about a validation, each as one self-contained file."""

from __future__ import annotations

import copy
import html
import re
from pathlib import Path
from typing import Any

from great_expectations.core import ExpectationSuiteValidationResult
from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView

from nightshift.verdict import Verdict

INDEX = "index.html"
# Nothing in a page may run or be loaded, wherever it came from.
POLICY = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">"""


def page_name(suite: str, first: str) -> str:
    """Return the file name of a suite's page; the first suite's is the index."""
    return INDEX if suite == first else f"{suite}.html"


def pages(
    results: dict[str, ExpectationSuiteValidationResult], title: str, verdict: Verdict, reasons: list[str]
) -> dict[str, str]:
    """Return file name → HTML, one page a suite; the first is `index.html` and all link to each other.

    :param results: by suite.
    """
    first = next(iter(results))
    links = "".join(
        f'<a href="{page_name(suite, first)}">{html.escape(suite)} ({_held(result)})</a>'
        for suite, result in results.items()
    )
    head = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">{POLICY}<title>{html.escape(title)}</title>'
        f"<style>{(Path(__file__).parent / 'data_docs.css').read_text()}</style></head><body>"
        f"<header><h1>{html.escape(title)}</h1>"
        f'<p><b class="verdict {verdict.value}">{verdict.value}</b></p>'
        f"<ul>{''.join(f'<li>{html.escape(reason)}</li>' for reason in reasons)}</ul><nav>{links}</nav></header>"
    )
    return {
        page_name(suite, first): f"{head}{_samples(result)}{_body(result)}</body></html>"
        for suite, result in results.items()
    }


def _samples(result: ExpectationSuiteValidationResult) -> str:
    """Which expectations of a suite were checked on a part of the rows."""
    lines = [
        f"<li>{html.escape(_called(item.expectation_config))}: checked on {html.escape(item.result['sample'])}</li>"
        for item in result.results
        if "sample" in item.result
    ]
    return f'<ul class="samples">{"".join(lines)}</ul>' if lines else ""


def _called(config: Any) -> str:
    column = config.kwargs.get("column")
    return config.description or f"{config.type}{f' ({column})' if column else ''}"


def _held(result: ExpectationSuiteValidationResult) -> str:
    statistics = result.statistics
    return f"{statistics['successful_expectations']} of {statistics['evaluated_expectations']} hold"


def _body(result: ExpectationSuiteValidationResult) -> str:
    """The sections of the page that Great Expectations renders.

    Its frame loads styles and scripts from six other hosts; the sections need none of them but for looks.
    """
    safe = copy.deepcopy(result)
    for item in safe.results:
        # It shows values of the data as they are, and so would let a message write the page.
        item.result, item.exception_info = _escaped(item.result), _escaped(item.exception_info)
    page = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(safe))
    content = page.partition('<div class="container-fluid')[2].partition("<footer")[0]
    sections = content[content.index('<div class="col-md-10') :]
    return "<main>" + re.sub(r"<(script|style)\b.*?</\1>|<link\b[^>]*>|<img\b[^>]*>", "", sections, flags=re.S)


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_escaped(item) for item in value]
    return html.escape(value) if isinstance(value, str) else value
