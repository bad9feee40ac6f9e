"""Whether MLflow and the ledger name the same champion: only a release may move the alias."""

from __future__ import annotations

from nightshift.ledger.store import Ledger


def moved_by_hand(ledger: Ledger, application: str, version: str, digest: str) -> str | None:
    """Say what is wrong where the alias `champion` names another model than the newest release, and what to do; else None.

    Before the first release that was written down nothing can be said.

    :param version: that the alias names, with the digest of its model.
    """
    releases = ledger.releases()
    if not releases or releases[-1].model_digest == digest:
        return None
    newest = releases[-1]
    released = f"version {newest.version or 'unknown'}"
    return (
        f"the alias champion of {application} in MLflow names version {version}, but {released} was released last "
        f"({newest.released:%Y-%m-%d %H:%M} UTC): somebody moved it by hand, and its nights say nothing. Set the alias back to "
        f"{released}; to have version {version} instead, start {application}_release then, with its number and a reason"
    )
