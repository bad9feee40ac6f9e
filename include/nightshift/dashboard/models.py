"""The champion and the candidate of an application with their evaluations, from storage."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from nightshift.dashboard.stored import Store
from nightshift.errors import BadInput
from nightshift.evaluation.shadow_file import SHADOW, ShadowFile, shadow_partition
from nightshift.evaluation.watch_file import WatchFile, newest_look
from nightshift.ledger.records import GateRecord
from nightshift.ledger.store import Ledger
from nightshift.settings.application import Application
from nightshift.verdict import Verdict

NEWEST = 5  # evaluations that are searched for the candidate's


@dataclass(frozen=True)
class Score:
    """A score with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """A published comparison: scores as role -> metric -> score, and the gate's verdict about the candidate."""

    address: str  # below `evaluations`
    examples: int
    models: dict[str, str]  # role -> digest
    scores: dict[str, dict[str, Score]]
    verdict: Verdict
    reasons: tuple[str, ...]
    created: datetime
    changes: tuple[str, ...] = ()  # parts in which the candidate differs from the champion


@dataclass(frozen=True)
class Model:
    """A version and its scores by metric, which are empty if its evaluation is gone."""

    version: str
    digest: str
    scores: dict[str, Score]
    evaluation: Evaluation | None
    since: datetime  # release of a champion, evaluation of a candidate
    gate: GateRecord | None = None

    def score(self, application: Application) -> Score | None:
        """Return the score that the application's gate decides by."""
        return self.scores.get(application.gate.metric)


def champion(store: Store, records: Ledger) -> Model | None:
    """Return the model of the newest release, or None before the first.

    :raises BadInput: a record cannot be read.
    """
    newest = records.newest_release()
    if newest is None:
        return None
    address = (newest.evaluation or "").rpartition("/")[2]  # still valid after storage moved
    evaluation = evaluation_at(store, address) if address else None
    scores = evaluation.scores.get("candidate", {}) if evaluation else {}
    return Model(newest.version, newest.model_digest, scores, evaluation, newest.released)


def candidate(store: Store, current: Model | None, records: list[GateRecord]) -> Model | None:
    """Return the newest model that was evaluated after the champion and has not replaced it, or None.

    :param records: the gate's records, in order of time.
    """
    evaluations = [evaluation_at(store, address) for address in store.names("evaluations")]
    known = sorted((one for one in evaluations if one), key=lambda one: one.created)
    for evaluation in reversed(known[-NEWEST:]):
        digest = evaluation.models.get("candidate", "")
        if current and (digest == current.digest or evaluation.created <= current.since):
            continue
        said = [record for record in records if record.model_digest == digest]
        gate = said[-1] if said else None
        return Model(
            version=gate.version if gate else "",
            digest=digest,
            scores=evaluation.scores.get("candidate", {}),
            evaluation=evaluation,
            since=evaluation.created,
            gate=gate,
        )
    return None


def evaluation_at(store: Store, address: str) -> Evaluation | None:
    """Return a published evaluation, or None if it is missing or damaged."""
    try:
        return _evaluation(store, address)
    except (LookupError, BadInput):
        return None


def shadow(
    store: Store, application: Application, current: Model | None, other: Model | None, records: Ledger
) -> tuple[str, ShadowFile] | None:
    """Return address and content of the candidate's shadow, or without a candidate that of the champion; or None.

    :raises BadInput: it cannot be read.
    """
    released = [release.model_digest for release in records.releases()[-2:]]
    pair = [other.digest, current.digest] if other and current else released[::-1]
    if len(pair) < 2:
        return None
    address = shadow_partition(store.storage, application, *pair).name
    manifest = store.manifest("shadows", address)
    found = manifest and store.model(ShadowFile, "shadows", address, manifest.file(SHADOW).path)
    return (address, found) if found else None


def watch(store: Store, application: Application, records: Ledger) -> WatchFile | None:
    """Return the newest look at the first intervals of the champion's release, or None.

    :raises BadInput: it cannot be read.
    """
    newest = records.newest_release()
    return newest_look(store.storage, application.name, newest.number) if newest and application.watch else None


@lru_cache(maxsize=2_000)
def _evaluation(store: Store, address: str) -> Evaluation:
    """:raises LookupError: nothing is published there yet, which is not cached."""
    manifest = store.manifest("evaluations", address)
    if manifest is None:
        raise LookupError(address)
    path = ("evaluations", address, manifest.file("scores.json").path)
    try:
        content = json.loads(store.read(*path) or b"")
        comparison, decision = content["comparison"], content["decision"]
        return Evaluation(
            address=address,
            examples=int(comparison["examples"]),
            models={str(role): str(digest) for role, digest in content["models"].items()},
            scores=_by_role(comparison["scores"]),
            verdict=Verdict(decision["verdict"]),
            reasons=tuple(map(str, decision["reasons"])),
            created=manifest.created,
            changes=tuple(map(str, content.get("changes") or ())),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{store.address(*path)}: not the scores of an evaluation: {error}") from error


def _by_role(scores: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, Score]]:
    """Parse stored scores, in which an infinite loss is a string."""
    return {
        role: {metric: Score(*(float(one[key]) for key in ("value", "low", "high"))) for metric, one in own.items()}
        for role, own in scores.items()
    }
