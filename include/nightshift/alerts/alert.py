"""An alert: one event or condition, with what to do about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from nightshift.settings.people import Kind, Severity

if TYPE_CHECKING:
    from nightshift.settings.application import Application


def _only_web(links: dict[str, str]) -> dict[str, str]:
    """Keep only links to web pages, so that no link in a mail runs code."""
    return {name: url for name, url in links.items() if url.startswith(("http://", "https://"))}


class Alert(BaseModel):
    """One alert. Its texts may contain what users and models wrote, and must be escaped when shown.

    :param subject: the part of the application that it is about: a DAG, a run, a version.
    :param night: the night that it belongs to, as in `2026-11-30`; alerts of one night are sent together.
    :param where: application, DAG, run and task, for a person.
    :param facts: reasons with their numbers.
    :param since: when it began; `at`: when it was noticed.
    :param condition: stays open until a `good` alert with the same condition; empty: a single event.
    :param cause: another cause makes it news although the condition is open already.
    :param occurrence: distinguishes repeated events of the same subject; a retried task is the same occurrence.
    :param explains: ids of less specific alerts about the same problem, which are then not sent.
    :param quiet: it goes to the mailbox only: a person acknowledged or silenced its condition.
    :param opened: of a good alert, the id of the alert that opened the condition.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    application: str
    kind: Kind
    severity: Severity
    title: str
    subject: str = ""
    night: str | None = None
    where: str = ""
    facts: list[str] = []
    at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    since: AwareDatetime = Field(default_factory=lambda fields: fields["at"])
    todo: str = ""
    links: Annotated[dict[str, str], AfterValidator(_only_web)] = {}
    condition: str = ""
    cause: str = ""
    occurrence: str = ""
    good: bool = False
    explains: list[str] = []
    opened: str = ""
    quiet: bool = False
    test: bool = False

    @property
    def id(self) -> str:
        """Equal for the same event, however often and by which process it is noticed."""
        identity = [self.application, self.kind, self.subject, self.night, self.cause, self.occurrence]
        identity += ["good" if self.good else "", self.opened]
        text = json.dumps(identity, separators=(",", ":"))
        return f"{self.kind}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"

    @property
    def group(self) -> str:
        """The group of alerts that are sent together: its interval, or else the day on which it was noticed."""
        return self.night or f"{self.at.astimezone(UTC):%Y-%m-%d}"


@dataclass(frozen=True)
class ResultAlerts:
    """What all alerts of one result have in common.

    :param where: application, DAG, run and task, for a person.
    :param links: pages about the run, by name; `report_page` gives the page of one report by its URI.
    :param failure: id of the alert that tells that this run failed: what explains the failure makes it superfluous. Two
        tries of one run have the same, a run that was cleared has another.
    """

    application: Application
    where: str
    links: Mapping[str, str]
    report_page: Callable[[str | None], str]
    failure: str
    now: datetime

    def alert(self, kind: Kind, severity: Severity, title: str, **fields: Any) -> Alert:
        """Return an alert of this result."""
        links = {name: url for name, url in {**self.links, **fields.pop("links", {})}.items() if url}
        return Alert(
            application=self.application.name, where=self.where, at=self.now,
            kind=kind, severity=severity, title=title, links=links, **{"occurrence": self.failure, **fields},
        )  # fmt: skip

    def good(self, kind: Kind, condition: str, title: str, **fields: Any) -> Alert:
        """Return a recovery; the outbox drops it where nothing was open."""
        return self.alert(kind, Severity.INFO, title, condition=condition, good=True, **fields)
