"""Two answers on the review page: nothing says which version gave which before somebody has chosen, and texts stay texts."""

import json
import re
import shutil
from datetime import UTC, datetime, timedelta

import pytest
from hostile import HOSTILE
from stored_application import of

from nightshift.data.review_pairs import PAIR_SCHEMA, PAIRS, shown_order
from nightshift.data.review_sample import SAMPLE, write_sample
from nightshift.ledger.reviews import reviews_of
from nightshift.storage.files import scratch
from nightshift.storage.manifest import MANIFEST
from nightshift.storage.partition import partition_of, publish

LATELY, LONG_AGO = (datetime.now(UTC).date() - timedelta(days=back) for back in (15, 30))
KEYS = [f"0123abcd-0000-4000-8000-{number:012}" for number in range(8)]
SHADOW = "0123456789abcdef"
TEXTS = {"champion": HOSTILE, "candidate": "It comes on Friday."}


def pair(key):
    side = {"champion": "7", "candidate": "8"}
    return {
        "key": key, "night": "2026-11-03", "row": 3, "digest": "d" * 64, "unit": "d" * 64,
        "messages": [{"role": "user", "content": "Hi\nthere"}], **TEXTS,
        **{f"{name}_model": version for name, version in side.items()},
        **{f"{name}_scores": {"judge": 0.125} for name in side},
    }  # fmt: skip


@pytest.fixture
def office(applications):
    """An application with the pairs of two shadows of old prompts, one of them published long ago."""
    app = applications("seen", more="feedback: {review: {rows: 8}}\n")
    app.home = partition_of(app.storage, "seen")
    for day in (LATELY, LONG_AGO):
        work = scratch(app.home)
        write_sample([pair(key) for key in KEYS], work / SAMPLE, PAIR_SCHEMA)
        publish(
            app.home / PAIRS / f"{day}-{SHADOW}", work, kind="review_sample", application="seen", interval=of(day),
            inputs={"day": day.isoformat()}, counts={"rows": len(KEYS)},
        )  # fmt: skip
        shutil.rmtree(work, ignore_errors=True)
    at = app.home / PAIRS / f"{LONG_AGO}-{SHADOW}" / MANIFEST
    created = datetime.now(UTC) - timedelta(days=30)
    at.write_text(json.dumps(json.loads(at.read_text()) | {"created": created.isoformat()}))
    return app


@pytest.fixture
def choose(visit):
    """A function with which somebody chooses, as the page's form does."""

    def send(user, day=LATELY, kind="application/json", **said):
        body = {"pairs": f"{day}-{SHADOW}", "key": KEYS[0], "better": "first", "reason": ""} | said
        headers = {"Content-Type": kind, "Accept": "*/*"}
        return visit("/review/seen/choices", user=user, method="POST", content=json.dumps(body), **headers)

    return send


def kept(office):
    return reviews_of(office.home, [SHADOW])


def test_both_answers_are_text_in_an_order_that_stays_and_nothing_says_whose_they_are(visit, office):
    page = visit("/review/seen", user="ann").text
    main = page.partition("<main")[2]
    assert "<script>window.harm" not in main
    assert "&lt;script&gt;window.harm = 1&lt;/script&gt;" in main
    assert "Hi\nthere" in main
    assert "0 of 8 pairs judged by you" in main
    assert str(LONG_AGO) not in main
    assert not re.search(r"version [78]|0\.125|champion|candidate", main)
    shown = [
        "champion" if "script" in text else "candidate"
        for text in re.findall(r"(?s)First answer.*?Second answer", main)
    ]
    assert shown == [shown_order(key, "ann")[0] for key in KEYS]
    assert len({*shown}) == 2
    assert visit("/review/seen", user="ann").text.partition("<main")[2] == main


def test_a_choice_is_kept_once_with_who_when_why_and_between_which_versions(office, choose, visit):
    assert choose("ann", reason="It\x00 tells ben@example.org.").json() == {"detail": "Kept."}
    (one,) = kept(office)
    first, _ = shown_order(KEYS[0], "ann")
    assert (one.by, one.better, one.first, one.version, one.candidate, one.good) == (
        "ann",
        first,
        first,
        "7",
        "8",
        True,
    )
    assert (one.interval, one.digest, one.reason) == ("2026-11-03", "d" * 64, "It⟨U+0000⟩ tells <email>.")
    assert datetime.now(UTC) - one.at < timedelta(minutes=1)
    again = choose("ann", better="second")
    assert (again.status_code, again.json()["detail"]) == (
        409,
        "You have reviewed this answer already; your first review counts.",
    )
    assert kept(office) == [one]
    page = visit("/review/seen", user="ann").text
    assert "1 of 8 pairs judged by you" in page
    assert "tells &lt;email&gt;" in page
    assert re.search(r"version 7</span></h3>", page)
    assert "tells &lt;email&gt;" not in visit("/review/seen", user="ben").text, (
        "what others chose would sway who has not"
    )


def test_only_who_may_approve_a_release_may_choose_and_no_other_site_can_for_them(office, choose, visit):
    assert [choose(user).status_code for user in ("viewer", None)] == [403, 401]
    assert choose("ann", kind="text/plain").status_code == 422
    assert "data-review" not in visit("/review/seen").text
    assert not kept(office)


def test_what_cannot_be_meant_is_refused_in_words(office, choose):
    for said, status, words in (
        ({"better": "neither"}, 422, "Say why neither answer is good enough."),
        ({"better": "candidate"}, 422, "A field of this form is missing or invalid"),
        ({"key": "../../ledger/orders/0001"}, 404, "load the page again"),
        ({"pairs": "../ledger"}, 404, "load the page again"),
        ({"day": LONG_AGO}, 404, "load the page again"),
    ):
        answer = choose("ann", **said)
        assert answer.status_code == status, said
        assert words in answer.json()["detail"]
    assert not kept(office)
    assert choose("ann", better="neither", reason="Both are wrong.").status_code == 201
    assert (kept(office)[0].better, kept(office)[0].good) == ("neither", False)


def test_agreement_on_choices_is_that_of_the_newest_feedback(office, visit):
    choices = {
        "reviewers": 2, "choices": 60, "pairs": 40, "pairs_of_several": 20, "alpha": 0.61, "first": 0.55,
        "scorers": {"judge": {"pairs": 38, "equal": 2, "agrees": 0.75, "low": 0.59, "high": 0.86}},
    }  # fmt: skip
    agreement = {
        "reviewers": 0,
        "reviews": 0,
        "answers": 0,
        "answers_of_several": 0,
        "alpha": None,
        "strata": {},
        "scorers": {},
    }
    facts = {"agreement": agreement | {"choices": choices}}
    office.partition("feedback", "feedback", [str(LATELY)], {"feedback.parquet": ""}, facts=facts)
    page = visit("/review/seen").text
    assert "60 choices between the answers of 40 pairs by 2 people" in page
    assert "Krippendorff's alpha 0.61, on 20 pairs" in page
    assert "prefers what people prefer in 75.0 % of 36 pairs (95 % interval 59.0 % to 86.0 %)" in page
