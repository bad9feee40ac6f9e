"""What people are told: one thing that happened or holds, with what to do about it."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from nightshift.settings.people import Kind, Severity


def _only_web(links: dict[str, str]) -> dict[str, str]:
    """What a mail may be clicked on for: pages, and nothing that runs."""
    return {name: url for name, url in links.items() if url.startswith(("http://", "https://"))}


class Alert(BaseModel):
    """One alert. Texts may hold what users and models wrote; whoever shows them escapes them.

    :param subject: what within the application it is about: a DAG, a run, a version.
    :param night: the interval that it belongs to, as in `2026-11-30`; what belongs to one interval is told together.
    :param where: application, DAG, run and task, for a person.
    :param facts: how bad it is: reasons with their numbers.
    :param since: when it began; `at`: when it was noticed.
    :param condition: what holds until a `good` alert with the same condition ends it; empty: nothing holds on.
    :param cause: what makes it news although the condition holds already.
    :param occurrence: tells apart what may happen to the same subject again; a retried task is the same occurrence.
    :param explains: ids of alerts that say less about the same thing, and are not told any more.
    :param quiet: it goes to no route, only to the mailbox: a person acknowledged or silenced its condition.
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
        """The same for the same thing, whoever notices it and however often."""
        told = [self.application, self.kind, self.subject, self.night, self.cause, self.occurrence]
        told += ["good" if self.good else "", self.opened]
        text = json.dumps(told, separators=(",", ":"))
        return f"{self.kind}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"

    @property
    def group(self) -> str:
        """What it is told together with: its interval, or else the day on which it was noticed."""
        return self.night or f"{self.at.astimezone(UTC):%Y-%m-%d}"
