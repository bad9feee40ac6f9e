"""The report of an interval: our verdicts over all rows, what is new in them, and below Evidently's page of two samples."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined

from nightshift.data.interactions import JUDGE_REASON
from nightshift.monitoring.cells import Numbers
from nightshift.monitoring.effects import SMALLEST_OF_EMBEDDINGS
from nightshift.monitoring.evidently_page import POLICY, compare_samples, with_section
from nightshift.monitoring.measured import COLUMNS
from nightshift.monitoring.metric_verdict import MetricVerdict, SegmentVerdict
from nightshift.monitoring.of_documents import FEWEST_ANSWERS, gaps_in
from nightshift.monitoring.profiles import Profile
from nightshift.monitoring.references import Reference
from nightshift.monitoring.verdicts import IntervalVerdict
from nightshift.settings.application import Application
from nightshift.settings.metrics import Metric
from nightshift.shown import shown
from nightshift.verdict import Verdict

SHOWN_NOVEL, SHOWN_OF_A_TOPIC = 20, 4  # prompts in the list of what is new
SHOWN_SEGMENTS = 30
TEXT_CHARACTERS = 400  # of a prompt or response
PHRASE_CHARACTERS = 300  # of a reason or a name
FAR = 0.95  # of the reference's prompts are nearer to their topic than what counts as far
GROUPS = ("inputs", "outputs", "scores", "quality")
PARTS = ("model_version", "groups", "segments", "trailing", "novel", "gaps_heading", "documents", "places")  # optional
DRAWN = [*COLUMNS, Metric.PROMPT_TOPIC, Metric.PROMPT_NOVELTY]
EMPTY_PAGE = "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'></head><body></body></html>"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compared:
    """A judged interval and what its report shows of it.

    :param places: what the verdict was made from and where that lies.
    :param own: metrics of own scorers that both samples have.
    :param documents: those that answers keep to least, as :func:`~nightshift.monitoring.of_documents.least_kept_to` has them.
    :param champion: sample of its rows of the same interval, where a challenger answered the interval: Evidently compares both.
    """

    application: Application
    interval: str
    verdict: IntervalVerdict
    profile: Profile
    sample: pa.Table
    novel: pa.Table
    reference: Reference
    model_version: str
    trailing_intervals: int
    places: Sequence[tuple[str, str]]
    own: Sequence[Metric] = ()
    champion: pa.Table | None = None
    documents: pa.Table | None = None


@dataclass(frozen=True)
class Report:
    """A page, and the same as JSON."""

    html: str
    content: dict[str, Any]


def phrase(text: str) -> str:
    """Return a reason or a name, which may hold what users wrote, bounded and harmless in a log."""
    return shown(text, PHRASE_CHARACTERS)


def report_of(compared: Compared) -> Report:
    """Return the report of an interval. What users and models wrote is bounded, escaped text in it."""
    current, champion = compared.sample, compared.champion
    reference = compared.reference.sample if champion is None else champion
    what = "rows of the reference" if champion is None else "of the champion in the same interval"
    drawn = DRAWN if champion is None else COLUMNS  # topics are those of a version's own reference
    drawn = [one for one in drawn if {*current.column_names} & {*reference.column_names} >= {one}]
    numbers: dict[str, Any] = {}
    try:
        page, numbers = compare_samples(current, reference, [*drawn, *compared.own], compared.application.drift)
        said = (
            f"{current.num_rows:,} interactions of the interval and {reference.num_rows:,} {what}, the same "
            "every time. Evidently judges these samples by distance alone; what counts is said above."
        )
    except Exception as error:  # a library's trouble with a column is no reason to have no verdict
        log.warning("Evidently cannot draw the samples: %s", phrase(str(error)))
        page, said = EMPTY_PAGE, f"Evidently cannot draw the samples: {phrase(str(error))}"
    novel = novel_prompts(compared.novel)
    gaps, gaps_heading = gaps_in(compared.profile, compared.sample, compared.reference.profile)
    documents = compared.documents.to_pylist() if compared.documents else []
    context = _context(compared) | {
        "novel": novel,
        "gaps": gaps,
        "gaps_heading": gaps_heading,
        "documents": documents,
        "fewest_answers": FEWEST_ANSWERS,
        "evidently": said,
    }
    content = {
        "application": compared.application.name,
        "night": compared.interval,
        "verdict": compared.verdict.model_dump(mode="json"),
        "new": novel,
        "gaps": gaps,
        "gaps_heading": gaps_heading,
        "documents": documents,
        "evidently": numbers,
    }
    return Report(_page(page, compared.application, compared.interval, compared.verdict.verdict, context), content)


def page_without_rows(application: Application, interval: str, verdict: Verdict, reasons: list[str]) -> str:
    """Return the page of an interval that has nothing to compare."""
    context = {"rows": 0, "heading": reasons[0], "reasons": reasons[1:], "evidently": "There is nothing to draw."}
    return _page(EMPTY_PAGE, application, interval, verdict, dict.fromkeys(PARTS, ()) | context)


def novel_prompts(rows: pa.Table) -> list[dict[str, Any]]:
    """Return the prompts farthest from all topics, at most four that are nearest to the same one."""
    found: list[dict[str, Any]] = []
    of_topic: Counter[str] = Counter()
    for row in rows.to_pylist():
        topic = row[Metric.PROMPT_TOPIC]
        of_topic[topic] += 1
        if of_topic[topic] <= SHOWN_OF_A_TOPIC and len(found) < SHOWN_NOVEL:
            found.append(
                {
                    "prompt": shown(row["prompt"], TEXT_CHARACTERS),
                    "response": shown(row["response"] or "", TEXT_CHARACTERS),
                    "judged": "" if row["judge"] is None else f"{row['judge']:.2f}",
                    "reason": shown(row.get(JUDGE_REASON) or "", TEXT_CHARACTERS),
                    "topic": phrase(topic),
                    "novelty": f"{row[Metric.PROMPT_NOVELTY]:.2f}",
                }
            )
    return found


def _page(page: str, application: Application, interval: str, verdict: Verdict, context: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("nightshift.monitoring", ""), autoescape=True, undefined=StrictUndefined
    )
    section = environment.get_template("drift_report.html.jinja").render(
        application=application.name, interval=interval, verdict=verdict.value, **context
    )
    style = files("nightshift.monitoring").joinpath("drift_report.css").read_text()
    title = f"{application.name} {interval}: {verdict.value}"
    return with_section(page, f"{POLICY}<title>{title}</title><style>{style}</style>", section)


def _context(compared: Compared) -> dict[str, Any]:
    verdict = compared.verdict
    groups = {group: [one for one in verdict.metrics if one.metric.group == group] for group in GROUPS}
    return {
        "heading": _heading(verdict),
        "rows": f"{verdict.rows:,}",
        "reference_rows": f"{verdict.reference_rows:,}",
        "reference_answers": f"{compared.reference.manifest.counts.get('answers', 0):,}",
        "model_version": compared.model_version,
        "reasons": [phrase(reason) for reason in verdict.reasons],
        "groups": [(group, _rows(metrics)) for group, metrics in groups.items() if metrics],
        "significance": f"{compared.application.drift.significance:g}",
        "worst_segment": phrase(verdict.worst_segment or ""),
        "segments": [_part(part) for part in verdict.segments[:SHOWN_SEGMENTS]],
        "trailing": _rows(verdict.trailing),
        "trailing_intervals": compared.trailing_intervals,
        "trailing_rows": f"{verdict.trailing_rows:,}",
        "novel_heading": _novel_heading(compared),
        "places": compared.places,
    }


def _heading(verdict: IntervalVerdict) -> str:
    """The interval in one sentence."""
    if verdict.verdict is Verdict.INSUFFICIENT_DATA:
        return "There is too little to compare"
    moved = [one for one in verdict.metrics if one.verdict is verdict.verdict]
    drifted = [one.metric.label for one in moved]
    if verdict.verdict is Verdict.PASS:
        return f"None of {len(verdict.metrics)} metrics left the reference"
    more = f" and {len(drifted) - 3} more" if len(drifted) > 3 else ""
    if moved and all(one.missing for one in moved):
        return f"Scores are missing: {', '.join(drifted[:3])}{more}"
    what = " and ".join(verdict.kinds).capitalize() or "Left the reference"
    return f"{what}: {', '.join(drifted[:3])}{more}"


def _rows(metrics: Iterable[MetricVerdict]) -> list[dict[str, Any]]:
    return [
        {
            "label": one.metric.label,
            "verdict": one.verdict.value,
            "effect": f"{one.effect:.3f}",
            "chance": f"{one.expected_by_chance:.3f}",
            "excess": f"{one.excess:.3f}",
            "floors": f"{one.warn:g} / {one.fail:g}",
            "q": "< 0.001" if one.q_value < 0.001 else f"{one.q_value:.3f}",
            "rows": f"{one.rows:,}",
            "reference_rows": f"{one.reference_rows:,}",
            "not_applicable": f"{one.not_applicable:,}" if one.not_applicable else "",
            "direction": phrase(one.direction),
        }
        for one in metrics
    ]


def _part(part: SegmentVerdict) -> dict[str, Any]:
    worst = part.metrics[0] if part.metrics else None
    return {
        "segment": phrase(part.segment),
        "verdict": part.verdict.value,
        "rows": f"{part.rows:,}",
        "worst": worst.metric.label if worst else "",
        "excess": f"{worst.excess:.3f}" if worst else "",
        "direction": phrase(worst.direction) if worst else "",
    }


def _novel_heading(compared: Compared) -> str:
    """How many prompts lie far from every topic, and how many would without drift."""
    current, reference = (one.get(Metric.PROMPT_NOVELTY) for one in (compared.profile, compared.reference.profile))
    if not (isinstance(current, Numbers) and isinstance(reference, Numbers) and current.rows and reference.rows):
        return "The prompts that lie farthest from every topic of the reference."
    limit = reference.quantile(FAR) + SMALLEST_OF_EMBEDDINGS
    far = current.counts[current.values > limit].sum() / current.rows
    return (
        f"{far:.0%} of the prompts lie farther from every topic than {FAR:.0%} of the reference do ({1 - FAR:.0%} by "
        "chance). The farthest:"
    )
