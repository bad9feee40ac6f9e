"""What the gate said about each candidate, and what a person said after it: written once and never changed."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel
from upath import UPath

from nightshift.data.storage import create
from nightshift.verdict import Verdict


class GateRecord(BaseModel):
    """One decision about one candidate, with the numbers that it saw."""

    application: str
    version: str
    model_digest: str
    champion_digest: str | None  # who was in use then
    evaluation: str
    evaluation_digest: str
    policy: str  # digest of the gate that decided
    verdict: Verdict
    reasons: list[str]
    numbers: dict[str, float]
    released: bool
    by: str  # "gate", or what the person who released it gave as a reason
    decided: datetime


def record(storage: str, decision: GateRecord) -> GateRecord:
    """Keep a decision and return it; where the same was decided before, return what was decided then.

    Another gate, another evaluation, or another champion to replace is another decision. A person's decision about a
    candidate stands beside the gate's, so a held candidate can be released later.
    """
    who = "gate" if decision.by == "gate" else "person"
    parts = (
        decision.model_digest[:16], decision.evaluation_digest[:12], decision.policy[:8],
        (decision.champion_digest or "none")[:8], who,
    )  # fmt: skip
    name = f"{'-'.join(parts)}.json"
    place = _folder(storage, decision.application) / name
    if create(place, decision.model_dump_json(indent=1).encode()):
        return decision
    return GateRecord.model_validate_json(place.read_bytes())


def gate_records(storage: str, application: str) -> list[GateRecord]:
    """Return every decision about candidates, in order of time."""
    try:
        places = [place for place in _folder(storage, application).iterdir() if place.name.endswith(".json")]
    except FileNotFoundError:
        return []
    found = [GateRecord.model_validate_json(place.read_bytes()) for place in places]
    return sorted(found, key=lambda decision: (decision.decided, decision.version))


def _folder(storage: str, application: str) -> UPath:
    return UPath(storage).joinpath(application, "ledger", "gate")
