"""Holds the end of the audit log against its newest anchor, and anchors it anew."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from nightshift.audit.anchor import Anchor, AnchorFiles
from nightshift.audit.chain import Chain
from nightshift.audit.verify import verify
from nightshift.errors import BadEnvironment, JobError

if TYPE_CHECKING:
    from nightshift.audit.anchor_runs import AnchorRuns


class Tampered(JobError):
    """The audit log is not what was anchored."""


def anchor_everywhere(chain: Chain, places: Iterable[AnchorFiles | AnchorRuns], now: datetime) -> dict[str, int]:
    """Anchor the log in every place, whatever is wrong with others, and return the number of the anchored entry by the place.

    :raises Tampered: some place holds another log than this one.
    :raises BadEnvironment: some place cannot be reached.
    """
    anchored: dict[str, int] = {}
    wrong: list[JobError] = []
    for place in places:
        try:
            anchored[place.name] = anchor_end(chain, place, now)
        except JobError as error:
            wrong.append(error)
        except Exception as error:  # MLflow and each object store have errors of their own
            wrong.append(BadEnvironment(f"the audit log is not anchored in {place.name}: {error}"))
    if not wrong:
        return anchored
    kind = Tampered if any(isinstance(error, Tampered) for error in wrong) else BadEnvironment
    raise kind("\n".join(map(str, wrong)))


def anchor_end(chain: Chain, place: AnchorFiles | AnchorRuns, now: datetime) -> int:
    """Check what follows the newest anchor in `place`, anchor the last entry there, and return the number of the anchored one.

    In some places that is done once in an hour of the clock; newer entries are checked and wait. Entries that an earlier call
    did not anchor are anchored with later ones. A log that is not what was anchored is not anchored, so that the next call
    finds the same.

    :raises Tampered: what was anchored is not in the log any more, or what follows it does not hold together.
    :raises BadEnvironment: the place cannot be reached.
    """
    before = place.newest(chain.id(), chain.storage)
    found = verify(chain, [before] if before else [], begin=before.count if before else 1)
    if found.problems:
        told = "\n".join(found.problems)
        raise Tampered(
            f"the audit log in {chain.storage} was tampered with:\n{told}\n"
            "`nightshift audit verify` looks at all of it; docs/audit.md says what to do"
        )
    anchored = before.count if before else 0
    if found.count == anchored or (place.hourly and before and _hour(before.anchored) == _hour(now)):
        return anchored
    place.keep(
        Anchor(
            chain=chain.id(),
            storage=chain.storage,
            count=found.count,
            head=found.head,
            previous=anchored,
            anchored=now,
        )
    )
    return found.count


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
