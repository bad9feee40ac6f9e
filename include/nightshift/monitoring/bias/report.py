"""The page of an interval's bias report: one HTML file that loads nothing, readable in the light and in the dark."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nightshift.monitoring.bias.counterfactuals import FIRST, key_of
from nightshift.monitoring.bias.probes import Probed
from nightshift.monitoring.bias.verdict import Finding, Judged, Section, by_size
from nightshift.settings.application import Application
from nightshift.shown import shown
from nightshift.verdict import Verdict

TEXT_CHARACTERS = 300
SHOWN_EXAMPLES = 12
SHOWN_FINDINGS = 60  # of a section
DRAWN = 24  # gaps in a picture
SECTIONS: dict[Section, str] = {
    "outputs": "What the interval's answers were, group by group",
    "counterfactuals": "The same message from somebody else",
    "stereotypes": "Which sentence the model finds likelier",
    "questions": "Whom the model suspects",
}
EXPLAINED: dict[Section, str] = {
    "outputs": (
        "Rows of a group against all other rows of its dimension; a prompt mentions a group when it holds one of the "
        "group's words. Groups ask different things, so a gap here is a reason to look, not yet a cause."
    ),
    "counterfactuals": (
        "The application's own messages behind a sentence that says who writes, which differs in one thing from the "
        "first version's. Changed answers: in what share the answer differs, less that share between two names of the "
        "same group, which is chance. The other gaps are the version's score less the first's."
    ),
    "stereotypes": (
        "CrowS-Pairs: in what share of the pairs the more stereotyping sentence is the likelier one, less a half. The "
        "pairs are known to hold flawed ones; the difference to the base model says more than the number itself."
    ),
    "questions": (
        "BBQ: s_DIS (where the context says the answer) and s_AMB (where it does not) are 0 without bias, 1 for answers "
        "that always agree with the stereotype, -1 for answers that always contradict it. A model that guesses scores "
        "about 0: read them with the accuracy."
    ),
}


@dataclass(frozen=True)
class Page:
    """What is said about an interval.

    :param full: whether the whole sets were asked.
    :param base: the base model's findings.
    :param probed: answers by role, `champion` and `base`.
    :param tests: exact tests of the counterfactual pairs.
    """

    application: Application
    interval: str
    full: bool
    verdict: Verdict
    reasons: list[str]
    rows: int
    judged: Judged
    base: list[Finding]
    probed: dict[str, list[Probed]]
    tests: list[dict[str, Any]]
    version: str
    places: list[tuple[str, str]] = field(default_factory=list)

    @property
    def content(self) -> dict[str, Any]:
        """The same as JSON: nothing in it depends on when or where it was measured."""
        return {
            "application": self.application.name,
            "night": self.interval,
            "verdict": self.verdict.value,
            "reasons": self.reasons,
            "rows": self.rows,
            "full_sets": self.full,
            "policy": self.application.bias.model_dump(mode="json"),
            "sections": {name: verdict.value for name, verdict in self.judged.sections.items()},
            "asked": {one.probe: one.manifest.counts["asked"] for one in self.probed.get("champion", [])},
            "findings": [finding.model_dump(mode="json") for finding in self.judged.findings],
            "base": [finding.model_dump(mode="json", exclude={"q", "verdict"}) for finding in self.base],
            "tests": self.tests,
        }

    @property
    def seconds(self) -> dict[str, float]:
        """Processor seconds that asking took, by role: those of this interval, and those of answers that were kept."""
        found: dict[str, float] = {}
        for role, probes in self.probed.items():
            for one in probes:
                kind = "asked now" if one.new else "kept"
                key = f"processor_seconds/{role}/{kind.replace(' ', '_')}"
                found[key] = round(found.get(key, 0.0) + one.manifest.facts["processor_seconds"], 1)
        return found


def render(page: Page) -> str:
    """Return the page. What users and models wrote is bounded, escaped text in it."""
    environment = Environment(
        loader=PackageLoader("nightshift.monitoring.bias", ""), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "points": _points,
        "chance": _chance,
        "shown": lambda text: shown(str(text), TEXT_CHARACTERS),
    }
    before = {finding.name: finding for finding in page.base}
    sections = []
    for name, title in SECTIONS.items():
        findings = [finding for finding in page.judged.findings if finding.section == name]
        told = [finding for finding in findings if finding.value is not None and finding.verdict is not None]
        small = [finding for finding in findings if finding.verdict is Verdict.INSUFFICIENT_DATA]
        drawn = by_size(told)[:DRAWN]
        section = {
            "name": name,
            "title": title,
            "explained": EXPLAINED[name],
            "verdict": page.judged.sections.get(name, Verdict.INSUFFICIENT_DATA),
            "findings": [(finding, before.get(finding.name)) for finding in _ordered(findings)[:SHOWN_FINDINGS]],
            "left_out": max(len(findings) - SHOWN_FINDINGS, 0),
            "told": len(told),
            "small": len(small),
            "drawn": drawn,
            "reach": _reach(drawn, page.application.bias.max_gap),
        }
        sections.append(section)
    return environment.get_template("report.html.jinja").render(
        page=page,
        policy=page.application.bias,
        sections=sections,
        changed=_changed(page),
        pairs=_pairs(page),
        probes=[(role, one) for role, probes in page.probed.items() for one in probes],
        now=sum(value for key, value in page.seconds.items() if key.endswith("asked_now")),
    )


def _ordered(findings: list[Finding]) -> list[Finding]:
    """Failures first, then warnings, then by the size of the gap; groups that are too small at the end."""
    order = [Verdict.FAIL, Verdict.WARN, Verdict.PASS, None, Verdict.INSUFFICIENT_DATA]
    return sorted(by_size(findings), key=lambda finding: order.index(finding.verdict))


def _reach(findings: list[Finding], bound: float) -> float:
    """Half the width of a picture's axis, a multiple of 0.1, so that every interval is on it."""
    ends = [abs(end) for finding in findings for end in (finding.low or 0.0, finding.high or 0.0)]
    return min(-(-max([bound * 1.5, *ends]) // 0.1) * 0.1, 1.0)


def _changed(page: Page) -> list[dict[str, Any]]:
    """Messages whose answer turned with their writer."""
    found = []
    for one in page.probed.get("champion", []):
        if one.probe != "counterfactuals":
            continue
        first = {key_of(row): row for row in one.rows if row["version"] == FIRST}
        for row in one.rows:
            before = first[key_of(row)]
            if row["answer"] != before["answer"]:
                found.append({"before": before, "after": row})
    return found[:SHOWN_EXAMPLES]


def _pairs(page: Page) -> list[dict[str, Any]]:
    """The pairs in which the more stereotyping sentence is the likeliest by far."""
    rows = [row for one in page.probed.get("champion", []) if one.probe == "stereotypes" for row in one.rows]
    return sorted((row for row in rows if row["margin"] > 0), key=lambda row: -row["margin"])[:SHOWN_EXAMPLES]


def _points(value: float | None, sign: bool = False) -> str:
    """A share of 1 as one of 100, with one decimal."""
    if value is None:
        return ""
    points = round(100 * value, 1) or 0.0  # no minus before a zero
    return f"{points:{'+' if sign and points else ''}.1f}".replace("-", "\N{MINUS SIGN}")


def _chance(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
