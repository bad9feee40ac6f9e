"""Converts records of the ledger to events of the audit log: who decided what."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import BaseModel
from upath import UPath

from nightshift.audit.entry import AuditEvent
from nightshift.audit.untrusted import bounded, text_of, without_secrets
from nightshift.errors import BadEnvironment
from nightshift.ledger.records import (
    DECIDING,
    AlertResponse,
    Answer,
    Claim,
    Erased,
    Erasure,
    GateRecord,
    Order,
    Outcome,
    Release,
    Request,
    Review,
    Snooze,
    Split,
    SplitEnd,
)  # fmt: skip
from nightshift.ledger.reviews import REVIEWS
from nightshift.storage.arrivals import arrivals_since
from nightshift.storage.partition import partition_of

# The folders that are read. Every order holds its decision, so those that led to nothing are left out.
KINDS: dict[str, type[BaseModel]] = {
    "orders": Order,
    "claims": Claim,
    "outcomes": Outcome,
    "snoozes": Snooze,
    "responses": AlertResponse,
    "releases": Release,
    "gate": GateRecord,
    "requests": Request,
    "answers": Answer,
    "erasures": Erasure,
    "erased": Erased,
    "splits": Split,
    "ends": SplitEnd,
    REVIEWS: Review,
}
REVIEW_PATH = re.compile(rf"{REVIEWS}/[\w-]+/[\w-]+\.json")
# What stores call the time at which a file came to be as it is: local files (which nobody can set back) and memory, S3, Google,
# Azure.
WRITTEN = ("created", "LastModified", "updated", "last_modified")

log = logging.getLogger(__name__)


def all_ledger_events(storage: str, applications: Iterable[str], since: datetime | None) -> Iterator[AuditEvent]:
    """Yield the events of every application's ledger; what cannot be read is told when all others are through.

    :raises BadEnvironment: storage does not give a ledger or a record.
    """
    unread = []
    for application in applications:
        try:
            yield from events_of_ledger(storage, application, since)
        except Exception as error:  # each object store has errors of its own
            unread.append(f"the ledger of {application} could not be read whole: {error}")
    if unread:
        raise BadEnvironment("\n".join(unread))


def events_of_ledger(storage: str, application: str, since: datetime | None) -> Iterator[AuditEvent]:
    """Yield what the records of one application that were written since then say; None: all records.

    A record that was changed after it was read is told again with its new content.

    :raises BadEnvironment: storage does not give some of them; all others were yielded.
    """
    unread = []
    folder = partition_of(storage, application, "ledger")
    folder.fs.invalidate_cache(folder.path)
    found = [*_records(folder, since), *_reviews(folder.parent, since)]
    for kind, name, path, written in found:
        try:
            content = folder.fs.cat_file(path)
        except FileNotFoundError:
            continue
        except Exception as error:  # each object store has errors of its own
            unread.append(f"{path}: {error}")
            continue
        if event := event_of_record(application, kind, name, content, written or datetime.now(UTC)):
            yield event
    if unread:
        raise BadEnvironment(f"storage does not give {len(unread)} of its records, as {unread[0]}")


def _records(folder: UPath, since: datetime | None) -> Iterator[tuple[str, str, str, datetime | None]]:
    """Kind, name, path and time of the records of a ledger that were written since then."""
    for path, about in sorted(folder.fs.find(folder.path, detail=True).items()):
        kind, _, name = str(path).removesuffix(".json").rpartition("/")
        kind = kind.rpartition("/")[2]
        written = _written(about)
        if kind in KINDS and not name.startswith(".") and not (since and written and written < since):
            yield kind, name, path, written


def _reviews(home: UPath, since: datetime | None) -> Iterator[tuple[str, str, str, datetime | None]]:
    """The same of reviews, of which there are many: those that were announced since then are found without a listing."""
    if since is None:
        root = (home / REVIEWS).path
        paths = [f"{REVIEWS}{str(path).rpartition(f'/{REVIEWS}')[2]}" for path in sorted(home.fs.find(root))]
    else:
        paths = [arrival.path for arrival in arrivals_since(home, since)]
    for path in paths:
        if REVIEW_PATH.fullmatch(path):
            yield REVIEWS, path.removeprefix(f"{REVIEWS}/").removesuffix(".json"), (home / path).path, None


def event_of_record(application: str, kind: str, name: str, content: bytes, written: datetime) -> AuditEvent | None:
    """Return what one record says was done; None where nobody did anything.

    :param kind: the folder of the ledger.
    :param written: when the file was written, for a record that cannot be read: that somebody wrote it is told all the same.
    """
    name, digest = text_of(name), hashlib.sha256(content).hexdigest()
    common = {"application": application, "source": "ledger", "source_id": f"{application}/{kind}/{name} {digest[:16]}"}
    try:
        told = _told(KINDS[kind].model_validate_json(content))
        return _audit_event(told, common) if told else None
    except Exception:  # a file may hold anything, and no record may keep those after it from the log
        log.warning("%s/ledger/%s/%s.json is no record of the ledger", application, kind, name)
    return AuditEvent(
        at=written,
        who="somebody",
        did="wrote what is no record of the ledger",
        to={kind: name},
        details={"sha256": digest},
        **common,
    )


class _Told(NamedTuple):
    """What one record says: when it was done, by whom, what, to what, and why."""

    at: datetime
    who: str
    did: str
    to: dict[str, Any]
    details: dict[str, Any] | None = None


def _audit_event(told: _Told, common: dict[str, Any]) -> AuditEvent:
    return AuditEvent(
        at=told.at if told.at.tzinfo else told.at.replace(tzinfo=UTC),
        who=text_of(told.who),
        did=told.did,
        to={key: text_of(value) for key, value in told.to.items() if value},
        details=bounded(without_secrets({key: value for key, value in (told.details or {}).items() if value})),
        **common,
    )


def _told(record: BaseModel) -> _Told | None:  # noqa: PLR0911, PLR0912  (a case a kind)
    to: dict[str, Any]
    details: dict[str, Any]
    match record:
        case Order():
            decision = record.decision
            did = "forced a retraining" if decision.code == "forced" else "ordered a retraining"
            details = {"reason": decision.reason, "decision": decision.id, "champion": decision.model_digest}
            return _Told(record.created, decision.by, did, {"retraining": record.number}, details)
        case Claim():
            did = "took up a retraining" if record.run_id else "gave up a retraining that no run took up"
            to = {"retraining": record.number, "dag": record.dag_id, "run": record.run_id}
            return _Told(record.claimed, record.run_id or "policy", did, to)
        case Outcome():
            to = {"retraining": record.number, "run": record.run_id, "version": record.model_version}
            details = {"explanation": record.explanation, "verdict": record.verdict}
            return _Told(record.ended, record.run_id or "policy", f"ended a retraining as {record.result}", to, details)
        case Snooze():
            did = "snoozed retraining" if record.until > record.created else "ended a snooze"
            details = {"until": record.until.isoformat(), "reason": record.reason}
            return _Told(record.created, record.by, did, {"snooze": record.id}, details)
        case AlertResponse():
            details = {"until": record.until.isoformat(), "reason": record.reason}
            return _Told(record.created, record.by, _RESPONDED[record.action], {"alert": record.condition}, details)
        case Review():
            did = "judged an answer as good" if record.good else "judged an answer as bad"
            details = {"reason": record.reason, "chosen as": record.chosen, "corrected": bool(record.correction)}
            if record.better:
                did = "chose between two answers"
                details = {"reason": record.reason, "candidate": record.candidate, "better": record.better}
            to = {"review": f"{record.shadow or record.interval}/{record.key}", "version": record.version}
            return _Told(record.at, record.by, did, to, details)
        case Release():
            to = {"version": record.version, "model": record.model_digest}
            return _Told(record.released, "release", "made a version the champion", to)
        case Split():
            to = {"split": record.number, "version": record.version, "model": record.model_digest}
            details = {"shares": record.settings.shares, "champion": record.champion}
            return _Told(record.started, "release", "began a split", to, details)
        case SplitEnd():
            to = {"split": record.number, "run": record.run_id}
            details = {"explanation": record.explanation}
            return _Told(record.ended, record.by, f"ended a split as {record.result}", to, details)
        case Request():
            to = {"request": record.id, "version": record.version, "model": record.model_digest}
            to |= {"dag": record.dag_id, "run": record.run_id, "task": record.task_id}
            details = {"subject": record.subject, "verdict": record.verdict, "approvers": record.approvers}
            details["until"] = record.until.isoformat()
            return _Told(record.asked, record.asked_by or "release", "asked for approval", to, details)
        case Answer():
            did, details = _ANSWERED[record.answer], {"reason": record.reason}
            return _Told(record.answered, record.by or "nobody", did, {"request": record.id}, details)
        case GateRecord():
            return _gate(record)
        case Erasure():
            details = {"reason": record.reason, "hashes": record.hashes}
            return _Told(record.created, record.by, "began to erase rows", {"erasure": record.number}, details)
        case Erased():
            details = record.model_dump(include={"rows", "rewritten", "deleted", "versions"})
            return _Told(record.ended, record.by, "erased rows", {"erasure": record.number}, details)
    raise TypeError(f"the audit log knows no {type(record).__name__}")


_RESPONDED = {
    "acknowledge": "acknowledged an alert",
    "silence": "silenced an alert",
    "end": "ended the silence of an alert",
}
_ANSWERED = {
    "approved": "approved a release",
    "rejected": "rejected a release",
    "timeout": "did not answer in time: the release is refused",
    "withdrawn": "withdrew a request",
}


def _gate(record: GateRecord) -> _Told | None:
    """What a gate alone held back is nothing that anybody did."""
    if record.by == "gate" and not record.released:
        return None
    by_itself = record.by in DECIDING and not record.person
    did = "released a version" if record.released else "was refused the release of a version"
    who = record.person or (record.by if by_itself else "somebody")
    to = {"version": record.version, "model": record.model_digest, "request": record.request}
    reason = "" if by_itself else record.by
    return _Told(record.decided, who, did, to, {"verdict": record.verdict, "reason": reason, "reasons": record.reasons})


def _written(about: Mapping[str, Any]) -> datetime | None:
    """When a store says that a file was written; None where it does not say."""
    moment = next((about[name] for name in WRITTEN if about.get(name)), None)
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    elif isinstance(moment, int | float):
        moment = datetime.fromtimestamp(moment, UTC)
    if moment is None or moment.tzinfo:
        return moment
    return moment.replace(tzinfo=UTC)
