"""The entries of the audit log: who did what, when and to what, with the hash that links each entry to the one before."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from nightshift.storage.manifest import digest_of

Source = Literal["airflow", "ledger"]
BEFORE_ALL = "0" * 64  # what the first entry follows


class AuditEvent(BaseModel):
    """One thing that somebody did, as a source tells it.

    :param at: when, by the source's own clock.
    :param to: what it was done to: `dag`, `run`, `task`, `version`, `variable`, …
    :param source_id: names the event in its source; an event that is read twice is kept once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: AwareDatetime
    who: str
    did: str
    application: str = ""
    to: dict[str, str] = {}
    details: dict[str, Any] = {}
    source: Source | Literal["audit"]
    source_id: str


class Entry(AuditEvent):
    """An event in the chain. `hash` is the SHA-256 of every other field, `previous` the hash of the entry before."""

    number: int
    previous: str
    hash: str = ""


def chained(event: AuditEvent, number: int, previous: str) -> Entry:
    """Return an event as the entry of this number, which follows the entry with the hash `previous`."""
    entry = Entry(number=number, previous=previous, **event.model_dump(include=set(AuditEvent.model_fields)))
    return entry.model_copy(update={"hash": hash_of(entry.model_dump(mode="json"))})


def hash_of(entry: dict[str, Any]) -> str:
    """Return the SHA-256 (hex) of all fields of an entry but its `hash`: of their JSON with sorted keys, without spaces."""
    return digest_of({key: value for key, value in entry.items() if key != "hash"})


def line_of(entry: dict[str, Any]) -> str:
    """Return an entry as the only line that is right for it, in ASCII, with its end."""
    return json.dumps(entry, separators=(",", ":")) + "\n"
