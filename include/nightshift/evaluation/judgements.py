"""What a judge said, kept as soon as it is paid for: a question is asked once, whichever attempt or interval asks it.

    <application>/judgements/<month>/<two digits>/<digest>.json   of the judge's opinion and of all that it was shown

A killed job loses none, and nodes or intervals with equal rows find each other's. A judged row costs three requests to
storage at most. What was found is kept in the current month (UTC), too; a month goes, whole, once the next one is over.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from upath import UPath

from nightshift.storage.endpoint_accounts import keep_endpoint_account
from nightshift.storage.files import create, names_in, read_bytes
from nightshift.storage.manifest import digest_of
from nightshift.storage.partition import drop

log = logging.getLogger(__name__)


class Judgement(NamedTuple):
    """A score, 0 to 1, and the judge's words for it: untrusted, bounded, empty where it gave none."""

    score: float
    reason: str


class KeptJudgements:
    """The judgements of an application by one judge.

    :param opinion: what the judge's scores depend on besides the question: endpoint, model, rubric and what it is told.
    """

    def __init__(self, place: UPath, opinion: Mapping[str, Any]) -> None:
        self._place, self._opinion = place, dict(opinion)

    def find(self, question: Mapping[str, Any]) -> Judgement | None:
        """Return what the judge said to a question before, or None where it was not asked or did not give a score."""
        current, before = (self._address(month, question) for month in _months(datetime.now(UTC)))
        if content := read_bytes(current):
            return _read(content)
        if (content := read_bytes(before)) and (found := _read(content)):
            create(current, content)
            return found
        return None

    def keep(self, question: Mapping[str, Any], judgement: Judgement) -> None:
        """Keep what the judge said; what another attempt kept before stays."""
        create(self._address(_months(datetime.now(UTC))[0], question), json.dumps(judgement._asdict()).encode())

    def account_for(self, cost: float) -> None:
        """Keep what the judge took for what it was asked."""
        keep_endpoint_account(self._place.parent, "judge", cost)

    def remove_old(self) -> None:
        """Remove what was neither kept nor found in this month and the one before."""
        _, before = _months(datetime.now(UTC))
        for name in names_in(self._place):
            if name < before or len(name) == len("ab"):  # an earlier version kept them for good, without a month
                log.info("%s: these judgements are too old, they are removed", self._place / name)
                drop(self._place / name)

    def _address(self, month: str, question: Mapping[str, Any]) -> UPath:
        digest = digest_of({"opinion": self._opinion, "question": question})
        return self._place / month / digest[:2] / f"{digest}.json"


def _read(content: bytes) -> Judgement | None:
    try:
        return Judgement(**json.loads(content))
    except (ValueError, TypeError):  # of a version that kept something else
        return None


def _months(now: datetime) -> tuple[str, str]:
    """The month of `now` and the one before, as they are named in storage."""
    first = now.replace(day=1)
    return f"{first:%Y-%m}", f"{first - timedelta(days=1):%Y-%m}"
