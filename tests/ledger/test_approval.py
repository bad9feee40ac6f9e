"""Who decides about a release: the gate, people, or a person's reason; and that a "no" stands until somebody asks again."""

from datetime import UTC, datetime, timedelta

import pytest

from nightshift.errors import BadInput
from nightshift.ledger.approval import (
    FormChoices,
    earlier_answer,
    keep_answer,
    keep_request,
    next_step,
    sentence,
    withdraw_open,
)
from nightshift.ledger.gate_records import record_approval
from nightshift.ledger.records import Answer, Release, Request
from nightshift.ledger.releases import decided_next
from nightshift.ledger.store import Ledger
from nightshift.settings.people import Approval
from nightshift.verdict import Verdict

NOW = datetime(2026, 11, 28, 10, 0, tzinfo=UTC)
NEVER, WARN, ALWAYS = (Approval(required=required) for required in ("never", "warn", "always"))
REASON, ASK = FormChoices(again=True, reason=True), FormChoices(again=True, ask=True)


def said(answer, request="20261128T100000-aaaa", **given):
    return Answer(id=request, answer=answer, answered=NOW, **{"by": "alice", "reason": "too rude", **given})


def asked(number=0, **given):
    digests = {"model_digest": "m" * 64, "evaluation_digest": "e" * 64, "champion_digest": None}
    facts = {
        "version": "3",
        "verdict": Verdict.WARN,
        "subject": "?",
        "dag_id": "d",
        "run_id": "r",
        "task_id": "approve",
    }
    times = {"asked": NOW, "until": NOW + timedelta(days=1)}
    return Request(id=f"2026112{number}T100000-aaaa", **{**digests, **facts, **times, **given})


@pytest.mark.parametrize(
    ("verdict", "changes", "way"),
    [
        (Verdict.PASS, ["retrieval"], "release"),
        (Verdict.PASS, ["retrieval", "prompt"], "ask"),
        (Verdict.PASS, [], "ask"),
        (Verdict.PASS, None, "ask"),  # the first champion
        (Verdict.WARN, ["retrieval"], "ask"),
        (Verdict.FAIL, ["retrieval"], "hold"),
    ],
)
def test_where_only_the_documents_changed_and_the_gate_says_pass_nobody_need_be_asked(verdict, changes, way):
    policy = Approval(required="always", unasked=["retrieval"])
    assert next_step(verdict, policy, FormChoices(), changes=changes).action == way
    assert next_step(Verdict.PASS, policy, ASK, changes=["retrieval"]).action == "ask"
    assert next_step(Verdict.PASS, policy, REASON, changes=["retrieval"], returns=True).action == "ask"


@pytest.mark.parametrize(
    ("verdict", "policy", "form", "way"),
    [
        (Verdict.PASS, NEVER, FormChoices(), "release"),
        (Verdict.WARN, NEVER, FormChoices(), "hold"),
        (Verdict.WARN, NEVER, REASON, "release"),
        (Verdict.PASS, WARN, FormChoices(), "release"),
        (Verdict.WARN, WARN, FormChoices(), "ask"),
        (Verdict.PASS, ALWAYS, FormChoices(), "ask"),
        (Verdict.WARN, ALWAYS, FormChoices(), "ask"),
        (Verdict.PASS, NEVER, ASK, "ask"),
        (Verdict.WARN, NEVER, ASK, "ask"),
        # Who starts a run is not who approves: where people are asked, a reason is no answer.
        (Verdict.WARN, WARN, REASON, "ask"),
        (Verdict.PASS, ALWAYS, REASON, "ask"),
    ],
)
def test_the_gate_a_reason_or_people_decide(verdict, policy, form, way):
    assert next_step(verdict, policy, form).action == way


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.ERROR, Verdict.INSUFFICIENT_DATA])
@pytest.mark.parametrize("policy", [NEVER, WARN, ALWAYS])
@pytest.mark.parametrize("form", [FormChoices(), REASON, ASK])
def test_what_failed_its_gate_is_never_put_to_people(verdict, policy, form):
    assert next_step(verdict, policy, form).action == "hold"


@pytest.mark.parametrize(
    ("shadow", "policy", "form", "way"),
    [
        (Verdict.PASS, NEVER, FormChoices(), "release"),
        (Verdict.WARN, NEVER, FormChoices(), "hold"),
        (Verdict.WARN, NEVER, REASON, "release"),
        (Verdict.WARN, WARN, FormChoices(), "ask"),
        # Too little to compare is no pass: a person decides, by an answer or, where nobody else is asked, by a reason.
        (Verdict.INSUFFICIENT_DATA, NEVER, FormChoices(), "ask"),
        (Verdict.INSUFFICIENT_DATA, NEVER, REASON, "release"),
        (Verdict.INSUFFICIENT_DATA, WARN, REASON, "ask"),
        (Verdict.FAIL, NEVER, REASON, "hold"),
        (Verdict.FAIL, ALWAYS, ASK, "hold"),
    ],
)
def test_after_its_gate_a_candidate_is_decided_about_by_its_shadow(shadow, policy, form, way):
    assert next_step(Verdict.PASS, policy, form, shadow=shadow).action == way


def test_no_shadow_helps_a_candidate_that_failed_its_gate():
    assert next_step(Verdict.FAIL, NEVER, REASON, shadow=Verdict.PASS).action == "hold"


@pytest.mark.parametrize("no", ["rejected", "timeout"])
@pytest.mark.parametrize("policy", [NEVER, WARN, ALWAYS])
@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.WARN])
def test_a_no_stands_whatever_the_gate_says_until_somebody_asks_again(no, policy, verdict):
    held = next_step(verdict, policy, FormChoices(), earlier=said(no))
    assert (held.action, "to ask again" in held.why) == ("hold", True)
    assert next_step(verdict, policy, FormChoices(again=True), earlier=said(no)).action == "ask"
    assert next_step(verdict, policy, REASON, earlier=said(no)).action == "ask"


def test_an_approval_that_took_no_effect_yet_releases_without_asking_twice():
    again = next_step(Verdict.WARN, WARN, FormChoices(), earlier=said("approved"))
    assert (again.action, again.request) == ("release", "20261128T100000-aaaa")
    assert next_step(Verdict.WARN, WARN, FormChoices(again=True), earlier=said("approved")).action == "ask"


def test_an_earlier_champion_comes_back_for_a_reason_unless_every_release_needs_people():
    for policy, way in ((NEVER, "release"), (WARN, "release"), (ALWAYS, "ask")):
        assert next_step(Verdict.FAIL, policy, REASON, returns=True).action == way


def test_the_answer_counts_that_was_given_about_the_same_candidate_evaluation_and_champion(tmp_path):
    ledger = Ledger(tmp_path.as_uri(), "app")
    for number, given in enumerate(({}, {"evaluation_digest": "x"}, {"champion_digest": "y"}, {}, {})):
        request = keep_request(ledger, asked(number, **given))
        answer = ("timeout", "approved", "approved", "rejected", "withdrawn")[number]
        keep_answer(ledger, said(answer, request.id))
    found = earlier_answer(ledger, "m" * 64, "e" * 64, None)
    assert (found.answer, found.id) == ("rejected", asked(3).id)
    assert earlier_answer(ledger, "m" * 64, "e" * 64, "z") is None


@pytest.mark.parametrize("released", ["m", "x"])
def test_an_approval_counts_until_the_next_release_of_whichever_model(tmp_path, released):
    ledger = Ledger(tmp_path.as_uri(), "app")
    ledger.create(Release(number=1, model_digest="c" * 64, released=NOW))
    keep_answer(ledger, said("approved", keep_request(ledger, asked(after=1)).id))
    assert earlier_answer(ledger, "m" * 64, "e" * 64, None).answer == "approved"
    # A day before by its own clock: of two machines, one is always behind.
    ledger.create(Release(number=2, model_digest=released * 64, released=NOW - timedelta(days=1)))
    assert earlier_answer(ledger, "m" * 64, "e" * 64, None) is None


def test_a_no_stands_through_every_release(tmp_path):
    ledger = Ledger(tmp_path.as_uri(), "app")
    keep_answer(ledger, said("rejected", keep_request(ledger, asked(after=0)).id))
    ledger.create(Release(number=1, model_digest="x" * 64, released=NOW + timedelta(days=1)))
    assert earlier_answer(ledger, "m" * 64, "e" * 64, None).answer == "rejected"


def test_the_first_answer_stays_and_a_task_that_is_tried_again_puts_the_same_request(tmp_path):
    ledger = Ledger(tmp_path.as_uri(), "app")
    first = keep_request(ledger, asked())
    assert keep_request(ledger, asked(until=NOW + timedelta(days=9))) == first
    assert keep_answer(ledger, said("rejected", first.id)).answer == "rejected"
    assert keep_answer(ledger, said("approved", first.id)).answer == "rejected"


def test_the_request_of_a_run_that_ended_is_withdrawn_by_the_next_one(tmp_path):
    ledger = Ledger(tmp_path.as_uri(), "app")
    for number in (1, 2):
        keep_request(ledger, asked(number, run_id=f"run-{number}"))
    keep_answer(ledger, said("approved", asked(1).id))
    (gone,) = withdraw_open(ledger, NOW)
    assert (gone.id, gone.answer, "run-2" in gone.reason) == (asked(2).id, "withdrawn", True)
    assert withdraw_open(ledger, NOW) == []


def test_an_answer_about_what_the_gate_never_put_to_people_releases_nothing(tmp_path):
    ledger = Ledger(tmp_path.as_uri(), "app")
    with pytest.raises(BadInput, match="no record of the gate about request"):
        record_approval(ledger, asked(), said("approved", asked().id))
    assert decided_next(ledger, "m" * 64, None) is None


def test_what_a_person_wrote_is_one_line_of_text_in_a_log():
    told = sentence(said("rejected", reason="no\x1b[2J\n\u202eway"))
    assert told == "alice rejected it on 2026-11-28 10:00 UTC: no⟨U+001B⟩[2J ⟨U+202E⟩way"
    assert sentence(said("timeout", by="", reason="")) == "rejected, because nobody answered until 2026-11-28 10:00 UTC"
