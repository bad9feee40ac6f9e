"""What the gate said about each candidate, and what a person said after it: written once and never changed."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel
from upath import UPath

from nightshift.errors import BadInput
from nightshift.ledger.records import Answer, Request
from nightshift.storage.files import create, names_in
from nightshift.storage.partition import digest_of
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
    person: str | None = None  # who released it, where a person did
    request: str | None = None  # where people were asked: the request of the ledger
    run_id: str = ""  # in which a person released it by a reason
    after: int | None = None  # number of the newest release then; None: an earlier version decided
    decided: datetime


def record(storage: str, decision: GateRecord) -> GateRecord:
    """Keep a decision and return it; where the same was decided before, return what was decided then.

    Another gate, another evaluation, another champion to replace, or a release since then makes another decision. A
    person's decision about a candidate stands beside the gate's, so a held candidate can be released later; so does what
    the gate says when it is not the one to decide. Each run in which a person decides is another one.
    """
    if decision.person:
        who = decision.request or f"person-{digest_of([decision.run_id, decision.person, decision.by])[:12]}"
    else:
        who = f"{'asked' if decision.request else 'gate'}-{decision.after or 0:04d}"
    parts = (
        decision.model_digest[:16], decision.evaluation_digest[:12], decision.policy[:8],
        (decision.champion_digest or "none")[:8], who,
    )  # fmt: skip
    name = f"{'-'.join(parts)}.json"
    place = _folder(storage, decision.application) / name
    if create(place, decision.model_dump_json(indent=1).encode()):
        return decision
    return GateRecord.model_validate_json(place.read_bytes())


def record_approval(storage: str, application: str, request: Request, answer: Answer) -> GateRecord:
    """Keep that a person released a candidate, beside what the gate had said when people were asked.

    :raises BadInput: nothing says what the gate had said.
    """
    said = [
        decision
        for decision in gate_records(storage, application)
        if decision.person is None
        and decision.request
        and decision.model_digest == request.model_digest
        and decision.evaluation_digest == request.evaluation_digest
        and decision.champion_digest == request.champion_digest
    ]
    if not said:
        raise BadInput(f"the ledger of {application} has no record of the gate about request {request.id}")
    approval = {
        "released": True,
        "by": answer.reason or "approved without a reason",
        "person": answer.by,
        "request": request.id,
        "after": request.after,  # the gate may have been asked again since
        "decided": answer.answered,
    }
    return record(storage, said[-1].model_copy(update=approval))


def gate_records(storage: str, application: str) -> list[GateRecord]:
    """Return every decision about candidates, in order of time."""
    folder = _folder(storage, application)
    names = [name for name in names_in(folder) if name.endswith(".json")]
    found = [GateRecord.model_validate_json((folder / name).read_bytes()) for name in names]
    return sorted(found, key=lambda decision: (decision.decided, decision.version))


def _folder(storage: str, application: str) -> UPath:
    return UPath(storage).joinpath(application, "ledger", "gate")
