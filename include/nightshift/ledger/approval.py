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
    """What the form of a release says.

    :param again: the candidate is named, or a person is asked for: an earlier answer does not settle it.
    :param ask: a person is to decide, whatever the application says.
    :param reason: a reason is given.
    """

    again: bool = False
    ask: bool = False
    reason: bool = False


class NextStep(BaseModel):
    """How a release goes on.

    :param by_person: the reason in the form releases it.
    :param request: id of an earlier request whose approval releases it.
    :param why: what to say beside the gate's reasons; may be empty.
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
    """Decide who decides about a candidate.

    What is neither PASS nor WARN is held and never put to people, but for a shadow that had too little to compare: people
    are asked then, unless a reason in the form releases it. A "no" about the same candidate, evaluation and
    champion stands, and an approval that took no effect yet does too, until somebody asks again; who asks again after a
    "no" cannot do without people. Where people are to be asked, a reason in the form is no answer: whoever starts a run
    may be one who may not approve.

    :param changes: the parts in which the candidate differs from the champion; None: `unasked` is not for it,
        because there is no champion, an earlier one returns, its split was stopped, or its shadow could not be made.
    :param earlier: the newest answer about the same.
    :param returns: an earlier champion comes back, for a reason in the form, whatever its verdict was.
    :param shadow: what the shadow says; PASS where there is none.
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
        return NextStep(action="ask", why="people are asked")
    if not doubtful and not returns:
        return NextStep(action="release")
    return NextStep(action="release" if form.reason else "hold", by_person=form.reason)


def sentence(answer: Answer) -> str:
    """Say what became of a request. Names and reasons are shown as text on one line; they are not escaped."""
    when = f"{answer.answered:%Y-%m-%d %H:%M} UTC"
    reason = f": {shown(answer.reason, LONGEST_REASON)}" if answer.reason else ""
    match answer.answer:
        case "timeout":
            return f"nobody answered until {when}, which is a no"
        case "withdrawn":
            return f"the question was withdrawn on {when}{reason}"
        case _:
            return f"{shown(answer.by, 100) or 'somebody'} {answer.answer} it on {when}{reason}"


def earlier_answer(
    ledger: Ledger, model_digest: str, evaluation_digest: str, champion_digest: str | None
) -> Answer | None:
    """Return the newest answer about this candidate, as judged in this evaluation, in place of this champion.

    A question that was withdrawn has none. An approval counts until the next release, of whichever model, a "no" for good.
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
    """Return the number of the newest release when something was asked; of an earlier version's requests, by the clock."""
    if request.after is not None:
        return request.after
    return sum(release.released <= request.asked for release in releases)


def withdraw_open(ledger: Ledger, now: datetime) -> list[Answer]:
    """Close every request without an answer. Releases run one at a time: whoever begins one finds only ended runs' ones."""
    requests = ledger.requests()
    answered = ledger.answers(requests)
    gone = [
        Answer(id=name, answer="withdrawn", reason=f"the run {request.run_id} ended without an answer", answered=now)
        for name, request in requests.items()
        if name not in answered
    ]
    return [answered_with(ledger, answer) for answer in gone]


def answered_with(ledger: Ledger, answer: Answer) -> Answer:
    """Keep an answer and return what is kept: the first one to a request stays."""
    if ledger.create(answer):
        return answer
    return ledger.answer(answer.id) or answer


def asked_with(ledger: Ledger, request: Request) -> Request:
    """Keep a request and return what is kept: a task that is tried again puts the same request."""
    if ledger.create(request):
        return request
    return ledger.request(request.id) or request
