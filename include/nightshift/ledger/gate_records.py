"""What the gate said about each candidate, and what a person said after it: written once and never changed."""

from __future__ import annotations

from nightshift.errors import BadInput
from nightshift.ledger.records import Answer, GateRecord, Request
from nightshift.ledger.store import Ledger
from nightshift.storage.manifest import digest_of


def record(ledger: Ledger, decision: GateRecord) -> GateRecord:
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
    decision = decision.model_copy(update={"id": "-".join(parts)})
    return decision if ledger.create(decision) else ledger.gate_record(decision.id) or decision


def put_to_people(
    ledger: Ledger, model_digest: str | None, evaluation_digest: str | None, champion_digest: str | None
) -> list[GateRecord]:
    """Return what the gate said about a candidate where people were to be asked, in order of time."""
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
    """Keep that a person released a candidate, beside what the gate had said when people were asked.

    :raises BadInput: nothing says what the gate had said.
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
