"""The review page: who may judge an answer, what is kept of it, and that texts stay texts."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import pytest
from hostile import HOSTILE
from stored_application import of

from nightshift.data.review_sample import SAMPLE, SAMPLES, write_sample
from nightshift.ledger.reviews import reviews_of
from nightshift.storage.files import scratch
from nightshift.storage.partition import partition_of, publish

TODAY = datetime.now(UTC).date()
LATELY, EARLIER, LONG_AGO = (TODAY - timedelta(days=back) for back in (1, 2, 30))
KEY = "0123abcd-0000-4000-8000-000000000001"


@pytest.fixture
def office(applications):
    """An application of which one answer of three nights each is put to people."""
    app = applications("seen", more="feedback: {review: {rows: 4}}\n")
    app.home = partition_of(app.storage, "seen")
    for day in (LATELY, EARLIER, LONG_AGO):
        row = {
            "key": KEY, "chosen": "lowest", "row": 3, "digest": "d" * 64, "prompt": "Where is it?", "response": HOSTILE,
            "context": "Cards take a week.\nOr two.", "model": "7", "model_digest": "m",
            "messages": [{"role": "user", "content": "Hi\nthere"}, {"role": "user", "content": "Where is it?"}],
            "scores": {"judge": 0.25, "logprob": -1.5},
        }  # fmt: skip
        work = scratch(app.home)
        write_sample([row], work / SAMPLE)
        publish(
            app.home / SAMPLES / day.isoformat(), work, kind="review_sample", application="seen", interval=of(day),
            inputs={"day": day.isoformat()}, counts={"rows": 1},
        )  # fmt: skip
        shutil.rmtree(work, ignore_errors=True)
    return app


@pytest.fixture
def judge(visit):
    """A function with which somebody judges the answer of a night, as the page's form does."""

    def send(user, day=LATELY, kind="application/json", **said):
        body = {"interval": str(day), "key": KEY, "thumb": "up", "correction": "", "reason": ""} | said
        headers = {"Content-Type": kind, "Accept": "*/*"}
        return visit("/review/seen", user=user, method="POST", content=json.dumps(body), **headers)

    return send


def kept(office, day=LATELY):
    return reviews_of(office.home, [str(day)])


def test_an_answer_is_shown_with_all_that_it_rests_on_and_every_text_is_text(visit, office):
    page = visit("/review/seen", user="ann").text
    assert "&lt;script&gt;window.harm = 1&lt;/script&gt;" in page
    assert "<script>window.harm" not in page
    assert "⟨U+202E⟩" in page
    assert "Hi\nthere" in page
    assert "Cards take a week.\nOr two." in page
    assert "<dt>log-probability (nats)</dt>" in page
    assert "0 of 1 answers judged by you" in page
    assert 'data-review="/nightshift/review/seen"' in page
    assert "lowest scored" not in page, "why it was chosen would sway who judges it"


def test_what_somebody_says_is_kept_once_with_who_when_and_why(office, judge, visit):
    answer = judge("ann", thumb="down", correction="Ask ben@example.org.", reason="It is\x00 rude.")
    assert (answer.status_code, answer.json()) == (201, {"detail": "Kept."})
    (review,) = kept(office)
    assert (review.by, review.good, review.chosen, review.version, review.digest) == (
        "ann",
        False,
        "lowest",
        "7",
        "d" * 64,
    )
    assert (review.correction, review.reason) == ("Ask <email>.", "It is⟨U+0000⟩ rude.")
    assert datetime.now(UTC) - review.at < timedelta(minutes=1)
    again = judge("ann")
    assert (again.status_code, again.json()["detail"]) == (
        409,
        "You have reviewed this answer already; your first review counts.",
    )
    assert kept(office) == [review]


def test_others_are_seen_only_by_who_has_judged_the_answer(office, judge, visit):
    judge("ann", thumb="down", reason="Rude.")
    assert "Rude." not in visit("/review/seen", user="ben").text
    assert judge("ben").status_code == 201
    page = visit("/review/seen", user="ben").text
    assert "Rude." in page
    assert "one of the lowest scored" in page
    assert "1 of 1 answers judged by you" in page
    assert len(kept(office)) == 2


def test_only_who_may_approve_a_release_may_judge(office, judge, visit):
    assert judge("viewer").status_code == 403
    assert judge(None).status_code == 401
    assert "data-review" not in visit("/review/seen").text
    assert not kept(office)


def test_another_site_cannot_send_the_form_with_a_users_cookie(office, judge, visit):
    """A page of another origin can send these kinds without asking the server first, and no other."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert judge("ann", kind=kind).status_code == 422, kind
    assert not kept(office)


def test_what_cannot_be_meant_is_refused_in_words(office, judge):
    for said, status, words in (
        ({"thumb": "down"}, 422, "Say why the answer is bad"),
        ({"thumb": "sideways"}, 422, "A field of this form is missing or invalid"),
        ({"reason": "x" * 2_001}, 422, "A field of this form is missing or invalid"),
        ({"key": "../../ledger/orders/0001"}, 404, "load the page again"),
        ({"interval": "../ledger"}, 404, "load the page again"),
        ({"day": LONG_AGO}, 404, "load the page again"),
    ):
        answer = judge("ann", **said)
        assert answer.status_code == status
        assert words in answer.json()["detail"]
    assert not kept(office)


def test_answers_of_earlier_nights_can_be_judged_as_long_as_feedback_may_be_about_them(office, judge, visit):
    assert judge("ann", day=EARLIER).status_code == 201
    page = visit(f"/review/seen?interval={EARLIER}", user="ann").text
    assert f"<strong>{EARLIER}</strong>" in page
    assert f"?interval={LATELY}" in page
    assert str(LONG_AGO) not in page


def test_agreement_is_that_of_the_newest_feedback(office, visit):
    scorer = {"answers": 40, "good": 30, "auc": 0.81}
    agreement = {
        "reviewers": 2, "reviews": 60, "answers": 40, "answers_of_several": 20, "alpha": 0.67,
        "strata": {"lowest": {"answers": 10, "bad": 7}, "random": {"answers": 10, "bad": 1}},
        "scorers": {"judge": scorer | {"agrees": 0.9, "low": 0.77, "high": 0.96}, "toxicity": scorer | {"auc": None}},
    }  # fmt: skip
    office.partition("feedback", "feedback", [str(LATELY)], {"feedback.parquet": ""}, facts={"agreement": agreement})
    page = visit("/review/seen").text
    assert "Krippendorff's alpha 0.67" in page
    assert "agrees with people on 90.0 % of 40 answers (95 % interval 77.0 % to 96.0 %)" in page
    assert "Found bad: 7 of 10 lowest, 1 of 10 random." in page
    assert "too few" in page


def test_an_application_without_a_review_has_no_such_page(visit, applications, office):
    applications("other")
    assert visit("/review/other").status_code == 404
    assert '/review/seen"' in visit("/apps/seen").text
    assert "/review/" not in visit("/apps/other").text


def test_storage_that_cannot_be_written_is_a_sentence(office, judge, monkeypatch):
    monkeypatch.setattr(
        "nightshift.dashboard.review.keep", lambda *_: (_ for _ in ()).throw(PermissionError(13, "no", "x"))
    )
    answer = judge("ann")
    assert answer.status_code == 503
    assert "The API server has no permission for x" in answer.json()["detail"]
