"""Verifies the end of the audit log against its newest anchors, and anchors it again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from nightshift.audit.anchor import Anchor, Witness
from nightshift.audit.chain import Chain
from nightshift.audit.signature import signed
from nightshift.audit.verify import Verified, verify
from nightshift.errors import BadEnvironment, JobError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class Tampered(JobError):
    """The audit log is not what was anchored."""


def anchor_everywhere(
    chain: Chain, memory: Witness, others: Iterable[Witness], now: datetime, key: Ed25519PrivateKey | None = None
) -> dict[str, int]:
    """Anchor the log in every place, also when others of them are down, and return the anchored entry by the place.

    First what follows the newest anchor of each place is held against it. A log that one of them contradicts is anchored
    nowhere and never signed, so that the next call finds the same; and so is one that `memory` cannot be asked about: whoever
    can replace the log and the anchors in the other places is found out by what it remembers. In some places the log is
    anchored once in an hour of the clock; newer entries are checked and wait. Entries that an earlier call did not anchor are
    anchored with later ones.

    :param memory: keeps anchors where nobody who can write the log can change them.
    :param key: signs the anchors; None: they have no signature.
    :raises Tampered: what was anchored is not in the log any more, or what follows it does not hold together.
    :raises BadEnvironment: some place cannot be reached.
    """
    wrong: list[JobError] = []
    checked = []
    for place in (memory, *others):
        with _gathered(place, wrong):
            checked.append((place, *_checked(chain, place)))
    anchored: dict[str, int] = {}
    if checked and checked[0][0] is memory and not _tampered(wrong):
        for place, before, found in checked:
            with _gathered(place, wrong):
                if anchor := _next(chain, place, before, found, now):
                    place.keep(signed(anchor, key) if key else anchor)
                anchored[place.name] = anchor.count if anchor else before.count if before else 0
    if not wrong:
        return anchored
    raise (Tampered if _tampered(wrong) else BadEnvironment)("\n".join(map(str, wrong)))


@contextmanager
def _gathered(place: Witness, wrong: list[JobError]) -> Iterator[None]:
    try:
        yield
    except JobError as error:
        wrong.append(error)
    except Exception as error:  # Airflow, MLflow and each object store have errors of their own
        wrong.append(BadEnvironment(f"the audit log is not anchored in {place.name}: {error}"))


def _checked(chain: Chain, place: Witness) -> tuple[Anchor | None, Verified]:
    before = place.newest(chain.id(), chain.storage)
    found = verify(chain, [before] if before else [], begin=before.count if before else 1)
    if found.problems:
        told = "\n".join(found.problems)
        raise Tampered(
            f"the audit log in {chain.storage} was tampered with:\n{told}\n"
            "`nightshift audit verify` looks at all of it; docs/audit.md says what to do"
        )
    return before, found


def _next(chain: Chain, place: Witness, before: Anchor | None, found: Verified, now: datetime) -> Anchor | None:
    anchored = before.count if before else 0
    if found.count == anchored or (place.hourly and before and _hour(before.anchored) == _hour(now)):
        return None
    return Anchor(
        chain=chain.id(),
        storage=chain.storage,
        count=found.count,
        head=found.head,
        previous=anchored if place.keeps_all else 0,
        anchored=now,
    )


def _tampered(wrong: Iterable[JobError]) -> bool:
    return any(isinstance(error, Tampered) for error in wrong)


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
