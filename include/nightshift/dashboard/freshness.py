"""How old the newest partition of each kind is, and whether that is too old for the application's schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from nightshift.config import Application
from nightshift.dashboard.nights import JudgedNight, start_of
from nightshift.dashboard.stored import Store
from nightshift.monitoring.due_nights import expected_night
from nightshift.monitoring.policy import Monitor


@dataclass(frozen=True)
class Fresh:
    """The newest partition of a kind; `stale` says what is wrong with its age, "" where nothing is."""

    kind: str
    interval: str
    written: datetime | None
    stale: str


def freshness(
    store: Store, app: Application, nights: Mapping[Monitor, Sequence[JudgedNight]], champion: str, now: datetime
) -> list[Fresh]:
    """Return the newest partition of examples, interactions, drift, bias and references.

    Examples and interactions are stale when the last interval of the schedule is over for hours and has none; drift and
    bias when a newer night has interactions; references when the champion has none.

    :param champion: digest of its model, "" where there is none.
    :raises BadInput: a manifest cannot be read.
    """
    expected = expected_night(now, app)
    answered = store.names("interactions")
    found = []
    for kind in ("examples", "interactions"):
        names = answered if kind == "interactions" else store.names(kind)
        newest = names[-1] if names else ""
        manifest = store.manifest(kind, newest) if newest else None
        late = bool(expected and (not newest or start_of(newest) < expected.start))
        stale = f"{expected.key} is expected and not there" if late and expected else ""
        found.append(Fresh(kind, newest, manifest.created if manifest else None, stale))
    for monitor, judged in nights.items():
        newest = judged[-1].interval if judged else ""
        behind = answered and answered[-1] > newest
        stale = f"{answered[-1]} has interactions and no verdict" if behind else ""
        found.append(Fresh(monitor, newest, judged[-1].created if judged else None, stale))
    address = champion[:16]
    reference = store.manifest("references", address) if champion else None
    stale = "" if reference or not champion else "the champion has none: nothing can be compared; run finetune again"
    found.append(Fresh("references", address if reference else "", reference.created if reference else None, stale))
    return found
