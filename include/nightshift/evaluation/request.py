"""The text of an approval request, as Markdown for Airflow's page of required actions.

Texts of users, models and sources are put in code spans or escaped. Only web addresses become links.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel

from nightshift.evaluation.estimates import METRICS, Estimate, Scores, metric_of
from nightshift.evaluation.score_file import ScoreFile
from nightshift.evaluation.shadow_file import ShadowFile
from nightshift.settings.application import Application
from nightshift.shown import in_markdown, shown
from nightshift.verdict import Verdict

CELL = 140  # characters of a message or an answer
SENTENCE = 600  # characters of a reason
ADDRESS = 600  # characters of an address that is a link
SHOWN_INTERVALS = 5


class FailedInterval(BaseModel):
    """An interval that led to the retraining."""

    interval: str
    monitor: str
    verdict: Verdict
    worst: str | None = None
    worst_segment: str | None = None
    run_url: str = ""


class Cost(BaseModel):
    """The cost of a training; GPU-hours and cost are None if its pods have no accounts.

    :param cost: in the currency of the compute profiles' prices.
    """

    hours: float
    processes: int
    gpu_hours: float | None = None
    cost: float | None = None


class Facts(BaseModel):
    """The content of a request, without scores and examples.

    :param champion: version in use, or None.
    :param returns: the candidate was the champion before, and was judged against the champion of its own time.
    :param cause: why the candidate was trained.
    :param shadow: the comparison on logged prompts; None: there was no shadow.
    :param form_reason: reason in the form that started the run, and who gave it.
    :param links: address by title.
    """

    version: str
    champion: str | None
    verdict: Verdict
    reasons: list[str]
    returns: bool = False
    shadow: ShadowFile | None = None
    form_reason: tuple[str, str] | None = None
    cause: str
    intervals: list[FailedInterval] = []
    cost: Cost | None = None
    links: dict[str, str] = {}

    @property
    def speakers(self) -> str:
        """The source of the verdict."""
        return "gate and shadow say" if self.shadow else "the gate says"


def subject_of(application: Application, facts: Facts) -> str:
    """Return the headline of a request."""
    place = f"in place of version {facts.champion}" if facts.champion else "as the first champion"
    return f"{application.name}: release version {facts.version} {place}? {facts.speakers.capitalize()} {facts.verdict}"


def compose(application: Application, facts: Facts, scores: ScoreFile) -> str:
    """Return the request as Markdown, some 16,000 characters at most."""
    environment = Environment(  # noqa: S701  (Markdown: `plain`, `code` and `link` escape)
        loader=PackageLoader("nightshift.evaluation", ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"plain": plain, "code": code, "link": link}
    roles: list[str] = [role for role in ("base", "champion", "candidate") if role in scores.comparison.scores]
    against = next((role for role in ("champion", "base") if role in roles), "")
    metric = application.gate.metric
    return environment.get_template("request.md.jinja").render(
        application=application,
        facts=facts,
        judged=scores.comparison.examples,
        days=scores.days,
        roles=roles,
        against=against,
        rows=_table(scores.comparison.scores, scores.comparison.differences.get(against), roles),
        metric=METRICS[metric].title,
        parts={
            name: (part.examples, _estimate(metric, part.differences[against][metric], signed=True))
            for name, part in scores.slices.items()
            if metric in part.differences.get(against, {})
        },
        suites={
            name: (part.examples, _estimate(metric, part.scores["candidate"].get(metric)))
            for name, part in scores.suites.items()
        },
        changes=scores.changes,
        side_by_side=scores.examples,
        intervals=facts.intervals[:SHOWN_INTERVALS],
    )


def plain(text: str) -> str:
    """Return a text of bounded length without markup, links or addresses."""
    # A word joiner keeps renderers from turning addresses into links.
    return re.sub(r"(?i)\b(https?|ftp|www|mailto|xmpp)(?=[:.])|@", "\\g<0>\u2060", in_markdown(shown(text, SENTENCE)))


def code(text: str) -> str:
    """Return a text of bounded length as a code span that may stand in a cell of a table."""
    content = shown(text, CELL).strip() or "(nothing)"
    # A backslash before a pipe would itself be read as escaped, and the pipe would end the cell.
    content = re.sub(r"(\\*)\|", r"\1\1\\|", content)
    fence = "`" * (1 + max(map(len, re.findall(r"`+", content)), default=0))
    return f"{fence} {content} {fence}"


def link(title: str, address: str) -> str:
    """Return a link to a web page; only the title if the address is not of the web, or longer than `ADDRESS`."""
    # Characters that could end the link or form an entity (`&#41;`) are encoded; `%` stays, the address may be encoded already.
    target = quote(address, safe="%/:?#&=+,@~!$*'")
    if not re.match(r"(?i)https?://[^/?#]", target) or len(target) > ADDRESS:
        return plain(title)
    return f"[{plain(title)}]({target})"


def _table(scores: dict[str, Scores], differences: Scores | None, roles: list[str]) -> list[tuple[str, list[str]]]:
    """One row per metric: its title, the score of each role, and the difference if there is another role."""
    return [
        (
            metric_of(metric).title,
            [
                *(_estimate(metric, scores[role].get(metric)) for role in roles),
                *([] if differences is None else [_estimate(metric, differences.get(metric), signed=True)]),
            ],
        )
        for metric in [*METRICS, *(name for name in scores[roles[-1]] if name not in METRICS)]
        if any(metric in scores[role] for role in roles)
    ]


def _estimate(metric: str, estimate: Estimate | None, *, signed: bool = False) -> str:
    if estimate is None:
        return "not measured"
    sign = "+" if signed else ""
    numbers = (metric_of(metric).shown(number, sign) for number in (estimate.value, estimate.low, estimate.high))
    value, low, high = (number.replace("-", "\N{MINUS SIGN}") for number in numbers)
    return f"{value} \\[{low}, {high}\\]"
