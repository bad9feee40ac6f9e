"""What a judge said, kept for good as soon as it is paid for: a question is asked once, whichever attempt or interval asks it.

    <application>/judgements/<two digits>/<digest>.json   of the judge's opinion and of all that it was shown

A killed job loses none, and nodes or intervals with equal rows find each other's. A judged row costs two requests to storage.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from upath import UPath

from nightshift.storage.files import create, read_bytes
from nightshift.storage.judge_accounts import keep_judge_account
from nightshift.storage.manifest import digest_of


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
        content = read_bytes(self._address(question))
        try:
            return Judgement(**json.loads(content)) if content else None
        except (ValueError, TypeError):  # of a version that kept something else
            return None

    def keep(self, question: Mapping[str, Any], judgement: Judgement) -> None:
        """Keep what the judge said; what another attempt kept before stays."""
        create(self._address(question), json.dumps(judgement._asdict()).encode())

    def account_for(self, cost: float) -> None:
        """Keep what the judge took for what it was asked."""
        keep_judge_account(self._place.parent, cost)

    def _address(self, question: Mapping[str, Any]) -> UPath:
        digest = digest_of({"opinion": self._opinion, "question": question})
        return self._place / digest[:2] / f"{digest}.json"
