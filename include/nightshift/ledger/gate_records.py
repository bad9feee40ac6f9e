"""The gate's decision about each candidate, and people's decisions after it: records that never change."""

from __future__ import annotations

from nightshift.errors import BadInput
from nightshift.ledger.records import Answer, GateRecord, Request
from nightshift.ledger.store import Ledger
from nightshift.storage.manifest import digest_of


def record(ledger: Ledger, decision: GateRecord) -> GateRecord:
    """Record a decision and return it; if the same decision was made before, return the earlier record.

    Another gate, evaluation or champion, or a release in between, makes another decision. A person's decision has a record of
    its own next to the gate's, so that a held candidate can be released later, and so has the gate's verdict when people
    decide. Each run in which a person decides makes another record.
    """
    if decision.person:
        who = decision.request or f"person-{digest_of([decision.run_id, decision.person, decision.by])[:12]}"
    else:
        who = f"{'asked' if decision.request else 'gate'}-{decision.after or 0:04d}"
    parts = (
        decision.model_digest[:16], decision.evaluation_digest[:12], decision.policy[:8],
        (decision.champion_digest or "none")[:8], who,
    )  # fmt: skip
    decision = decision.model_copy(update={"id": "-".join(parts)})
    return decision if ledger.create(decision) else ledger.gate_record(decision.id) or decision


def put_to_people(
    ledger: Ledger, model_digest: str | None, evaluation_digest: str | None, champion_digest: str | None
) -> list[GateRecord]:
    """Return the gate's records about a candidate that required an approval, in order of time."""
    return [
        decision
        for decision in ledger.gate_records()
        if decision.person is None
        and decision.request
        and decision.model_digest == model_digest
        and decision.evaluation_digest == evaluation_digest
        and decision.champion_digest == champion_digest
    ]


def record_approval(ledger: Ledger, request: Request, answer: Answer) -> GateRecord:
    """Record that a person released a candidate, next to the gate's record of the request.

    :raises BadInput: the gate's record is missing.
    """
    said = put_to_people(ledger, request.model_digest, request.evaluation_digest, request.champion_digest)
    if not said:
        raise BadInput(f"the ledger {ledger.home} has no record of the gate about request {request.id}")
    approval = {
        "released": True,
        "by": answer.reason or "approved without a reason",
        "person": answer.by,
        "request": request.id,
        "after": request.after,  # the gate may have been asked again since
        "decided": answer.answered,
    }
    return record(ledger, said[-1].model_copy(update=approval))
