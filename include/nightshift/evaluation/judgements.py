"""The LLM judge's judgements, kept as soon as they are paid for: a question is asked once, also across attempts and intervals.

    <application>/judgements/<month>/<two digits>/<digest>.json   digest of the judge's settings and of all that it was shown

A killed job loses none, and nodes or intervals with equal rows share theirs. A judged row takes at most three storage calls.
A judgement that is used again is copied to the current month (UTC); a month is deleted once the next one is over.
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
    """A score, 0 to 1, and the judge's reason: untrusted, of bounded length, possibly empty."""

    score: float
    reason: str


class KeptJudgements:
    """The judgements of an application by one judge.

    :param opinion: what the judge's scores depend on besides the question: endpoint, model, rubric and instructions.
    """

    def __init__(self, place: UPath, opinion: Mapping[str, Any]) -> None:
        self._place, self._opinion = place, dict(opinion)

    def find(self, question: Mapping[str, Any]) -> Judgement | None:
        """Return the kept judgement of a question, or None if there is none."""
        current, before = (self._address(month, question) for month in _months(datetime.now(UTC)))
        if content := read_bytes(current):
            return _read(content)
        if (content := read_bytes(before)) and (found := _read(content)):
            create(current, content)
            return found
        return None

    def keep(self, question: Mapping[str, Any], judgement: Judgement) -> None:
        """Keep a judgement; an earlier one of the same question stays."""
        create(self._address(_months(datetime.now(UTC))[0], question), json.dumps(judgement._asdict()).encode())

    def account_for(self, cost: float) -> None:
        """Write an account of the judge's cost."""
        keep_endpoint_account(self._place.parent, "judge", cost)

    def remove_old(self) -> None:
        """Remove judgements that were neither made nor used in this month and the one before."""
        _, before = _months(datetime.now(UTC))
        for name in names_in(self._place):
            if name < before or len(name) == len("ab"):  # older versions kept them without a month
                log.info("removing old judgements: %s", self._place / name)
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
