"""A message: alerts that are sent together, as plain text, HTML and Markdown."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import AwareDatetime, BaseModel, ConfigDict

from nightshift.alerts.alert import Alert
from nightshift.settings.people import Kind, Severity
from nightshift.shown import in_markdown, shown

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_ALERTS = 25  # with details in one message; the mailbox has all
MOST_FACTS = 8
LONGEST = 600  # characters of one fact
LONGEST_TITLE = 200


class Message(BaseModel):
    """A message to one route.

    :param group: the interval that its alerts belong to; empty: of several.
    :param severity: the worst of its alerts.
    :param sent: when the route accepted it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    application: str
    route: str
    group: str
    severity: Severity
    subject: str
    alerts: list[Alert]
    sent: AwareDatetime | None = None

    @property
    def good(self) -> bool:
        """Whether all its alerts are recoveries."""
        return all(alert.good for alert in self.alerts)

    @property
    def text(self) -> str:
        """The message as plain text."""
        return self._rendered("message.txt.jinja")

    @property
    def html(self) -> str:
        """The message as HTML without scripts and external resources; all texts are escaped."""
        return self._rendered("message.html.jinja")

    @property
    def markdown(self) -> str:
        """The message as Markdown, without its subject; Markdown in its texts is escaped."""
        return self._rendered("message.md.jinja")

    def _rendered(self, template: str) -> str:
        alerts = self.alerts[:MOST_ALERTS]
        return str(
            _environment()
            .get_template(template)
            .render(message=self, alerts=alerts, more=len(self.alerts) - len(alerts), most_facts=MOST_FACTS)
        )


def compose(alerts: Sequence[Alert], route: str) -> Message:
    """Return the message with these alerts (at least one), the worst first.

    The same alerts always make a message with the same id.
    """
    ordered = sorted(alerts, key=worst_first)
    first, groups = ordered[0], {alert.group for alert in ordered}
    digest = hashlib.sha256(" ".join([route, *sorted(alert.id for alert in ordered)]).encode()).hexdigest()
    return Message(
        id=digest[:20],
        application=first.application,
        route=route,
        group=groups.pop() if len(groups) == 1 else "",
        severity=first.severity,
        subject=_subject(ordered),
        alerts=ordered,
    )


def worst_first(alert: Alert) -> tuple[bool, int, datetime, str]:
    """Return the sort key of an alert in a message."""
    return alert.good, -alert.severity.rank, alert.at, alert.id


def _subject(alerts: list[Alert]) -> str:
    """One line with application, severity and title of the worst alert, and the number of others."""
    first = alerts[0]
    level = f"{'TEST ' if first.test else ''}{_word(first) if first.good else first.severity.upper()}"
    more = f" (and {len(alerts) - 1} more)" if len(alerts) > 1 else ""
    return f"[{first.application}] {level}: {shown(first.title, LONGEST_TITLE)}{more}"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("nightshift.alerts"),
        autoescape=select_autoescape(["html.jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        line=lambda text, most=LONGEST: shown(str(text), most),
        markdown=lambda text, most=LONGEST: in_markdown(shown(str(text), most)),
        address=lambda url: quote(url, safe="%/:?&=#+,;~@!$*'"),
        minute=_minute,
        level=lambda alert: "recovered" if alert.good else alert.severity.value,
        word=_word,
        kind=lambda alert: alert.kind.replace("_", " "),
    )
    return environment


def _word(alert: Alert) -> str:
    """The severity, or how the condition ended."""
    if alert.good:
        return "answered" if alert.kind is Kind.APPROVAL_WAITS else "recovered"
    return alert.severity.value


def _minute(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
