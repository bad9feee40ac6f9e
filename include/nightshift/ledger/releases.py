"""Numbered releases: each decision is valid for the next release only, whichever model it releases.

So comparing numbers, without clocks, tells whether a decision was carried out.
"""

from __future__ import annotations

from nightshift.ledger.approval import NO, asked_after
from nightshift.ledger.records import GateRecord, Release
from nightshift.ledger.store import Ledger


def decided_next(ledger: Ledger, model_digest: str, champion_digest: str | None) -> GateRecord | None:
    """Return the valid decision that a model replaces a champion in the next release; None if there is none.

    People's newest answer about the same models takes precedence: after a rejection no other decision counts.
    """
    releases = ledger.releases()
    about = {
        name: request
        for name, request in ledger.requests().items()
        if request.model_digest == model_digest
        and request.champion_digest == champion_digest
        and asked_after(request, releases) == len(releases)
    }
    answers = [answer for answer in ledger.answers(about).values() if answer.answer != "withdrawn"]
    newest = max(answers, key=lambda answer: answer.id, default=None)
    if newest and newest.answer in NO:
        return None
    found = [
        decision
        for decision in ledger.gate_records()
        if decision.released
        and decision.model_digest == model_digest
        and decision.champion_digest == champion_digest
        and decided_after(decision, releases) == len(releases)
    ]
    return found[-1] if found else None


def unfinished(release: Release, model_digest: str, carried_out: str) -> bool:
    """Return whether a release was recorded, but the task was killed before the alias moved.

    :param model_digest: of a version, whose tag names its release that was `carried_out` last.
    """
    return release.ahead and release.model_digest == model_digest and carried_out != str(release.number)


def decided_after(decision: GateRecord, releases: list[Release]) -> int:
    """Return the number of the newest release at the time of a decision; records of older versions are ordered by time."""
    if decision.after is not None:
        return decision.after
    return sum(release.released <= decision.decided for release in releases)


def moved_by_hand(ledger: Ledger, application: str, version: str, digest: str) -> str | None:
    """Return a message if the alias `champion` names another model than the newest release; else None.

    It returns None, too, before the first recorded release.

    :param version: the version that the alias names, with the `digest` of its model.
    """
    newest = ledger.newest_release()
    if newest is None or newest.model_digest == digest:
        return None
    released = f"version {newest.version or 'unknown'}"
    return (
        f"the alias champion of {application} in MLflow names version {version}, but {released} was released last "
        f"({newest.released:%Y-%m-%d %H:%M} UTC): somebody moved it by hand, and its intervals say nothing. Set the alias back "
        f"to {released}; to have version {version} instead, start {application}_release then, with its number and a reason"
    )
