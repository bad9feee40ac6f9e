"""Who decides about a release, and what people answered: a pure function, and the records of requests and answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from nightshift.ledger.records import Answer, Release, Request
from nightshift.ledger.store import Ledger
from nightshift.settings.people import Approval
from nightshift.shown import shown
from nightshift.verdict import Verdict

NO = {"rejected", "timeout"}
LONGEST_REASON = 300  # characters of a person's reason within a sentence


class FormChoices(BaseModel):
    """Choices in the form of a release.

    :param again: the form names the candidate or requests an approval: an earlier answer does not settle it.
    :param ask: require an approval, whatever the application's settings.
    :param reason: the form has a reason.
    """

    again: bool = False
    ask: bool = False
    reason: bool = False


class NextStep(BaseModel):
    """How a release goes on.

    :param by_person: the reason in the form releases it.
    :param request: id of an earlier request whose approval releases it.
    :param why: a reason in addition to the gate's; may be empty.
    """

    action: Literal["release", "ask", "hold"]
    by_person: bool = False
    request: str | None = None
    why: str = ""


def next_step(
    verdict: Verdict,
    policy: Approval,
    form: FormChoices,
    *,
    changes: Sequence[str] | None = None,
    earlier: Answer | None = None,
    returns: bool = False,
    shadow: Verdict = Verdict.PASS,
) -> NextStep:
    """Decide whether a candidate is released, held, or needs an approval.

    A verdict other than PASS or WARN is held without a request, except for a shadow with too little data: people are asked
    then, unless a reason in the form releases it. A rejection of the same candidate, evaluation and champion stands, and so
    does an approval without effect yet, until somebody asks again; after a rejection only people can release. If an approval
    is required, a reason in the form does not replace it: the person who starts a run may not be an approver.

    :param changes: the parts in which the candidate differs from the champion; None: `unasked` does not apply, because there
        is no champion, an earlier one returns, its split was stopped, or its shadow could not be made.
    :param earlier: the newest answer about the same candidate, evaluation and champion.
    :param returns: an earlier champion comes back, for a reason in the form, whatever its verdict was.
    :param shadow: verdict of the shadow; PASS without one.
    """
    unknown = shadow is Verdict.INSUFFICIENT_DATA
    doubtful = not returns and (unknown or Verdict.WARN in {verdict, shadow})
    if not returns and not {verdict, Verdict.WARN if unknown else shadow} <= {Verdict.PASS, Verdict.WARN}:
        return NextStep(action="hold")
    if earlier and not form.again and earlier.answer == "approved":
        return NextStep(action="release", request=earlier.id, why=sentence(earlier))
    refused = earlier is not None and earlier.answer in NO
    if earlier and refused and not form.again:
        why = f"{sentence(earlier)}; to ask again, start this DAG with the number of the version"
        return NextStep(action="hold", why=why)
    unasked = (
        not returns
        and {verdict, shadow} == {Verdict.PASS}
        and bool(changes)
        and {*(changes or ())} <= {*policy.unasked}
    )
    required = (policy.required == "always" and not unasked) or (policy.required != "never" and doubtful)
    if form.ask or refused or required or (unknown and not form.reason):
        return NextStep(action="ask", why="an approval is required")
    if not doubtful and not returns:
        return NextStep(action="release")
    return NextStep(action="release" if form.reason else "hold", by_person=form.reason)


def sentence(answer: Answer) -> str:
    """Describe the answer to a request in a sentence. Names and reasons are put on one line, but not escaped."""
    when = f"{answer.answered:%Y-%m-%d %H:%M} UTC"
    reason = f": {shown(answer.reason, LONGEST_REASON)}" if answer.reason else ""
    match answer.answer:
        case "timeout":
            return f"rejected, because nobody answered until {when}"
        case "withdrawn":
            return f"the request was withdrawn on {when}{reason}"
        case _:
            return f"{shown(answer.by, 100) or 'somebody'} {answer.answer} it on {when}{reason}"


def earlier_answer(
    ledger: Ledger, model_digest: str, evaluation_digest: str, champion_digest: str | None
) -> Answer | None:
    """Return the newest answer about this candidate with this evaluation against this champion.

    A withdrawn request has none. An approval is valid until the next release of any model, a rejection permanently.
    """
    requests = {
        name: request
        for name, request in ledger.requests().items()
        if request.model_digest == model_digest
        and request.evaluation_digest == evaluation_digest
        and request.champion_digest == champion_digest
    }
    given = [answer for answer in ledger.answers(requests).values() if answer.answer != "withdrawn"]
    newest = max(given, key=lambda answer: answer.id, default=None)
    if newest and newest.answer == "approved":
        releases = ledger.releases()
        return newest if asked_after(requests[newest.id], releases) == len(releases) else None
    return newest


def asked_after(request: Request, releases: Sequence[Release]) -> int:
    """Return the number of the newest release at the time of a request; requests of older versions are ordered by time."""
    if request.after is not None:
        return request.after
    return sum(release.released <= request.asked for release in releases)


def withdraw_open(ledger: Ledger, now: datetime) -> list[Answer]:
    """Withdraw all open requests. Releases run one at a time, so a starting release finds only requests of ended runs."""
    requests = ledger.requests()
    answered = ledger.answers(requests)
    gone = [
        Answer(id=name, answer="withdrawn", reason=f"the run {request.run_id} ended without an answer", answered=now)
        for name, request in requests.items()
        if name not in answered
    ]
    return [keep_answer(ledger, answer) for answer in gone]


def keep_answer(ledger: Ledger, answer: Answer) -> Answer:
    """Record an answer and return the recorded one: the first answer to a request stays."""
    if ledger.create(answer):
        return answer
    return ledger.answer(answer.id) or answer


def keep_request(ledger: Ledger, request: Request) -> Request:
    """Record a request and return the recorded one: a repeated task finds its earlier request."""
    if ledger.create(request):
        return request
    return ledger.request(request.id) or request
