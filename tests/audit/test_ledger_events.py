"""What people and the policy decide about models is in the log, with who and why; a record that was changed is told again."""

import os
import shutil
import time
from datetime import timedelta

import pytest
from audit_logs import NOW
from ledger_intervals import APP, outcome, trip

from nightshift.audit.chain import Chain
from nightshift.audit.ledger_events import all_ledger_events, events_of_ledger
from nightshift.audit.verify import verify
from nightshift.errors import BadEnvironment
from nightshift.ledger import orders
from nightshift.ledger.gate_records import record
from nightshift.ledger.records import Answer, GateRecord, Release, Request, Review, Snooze
from nightshift.ledger.reviews import keep
from nightshift.ledger.store import Ledger
from nightshift.verdict import Verdict


@pytest.fixture(params=["file", "memory", pytest.param("s3", marks=pytest.mark.slow)])
def storage(request, tmp_path):
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
    return tmp_path.as_uri() if request.param == "file" else f"memory://{tmp_path.name}"


def collect(storage, chain):
    since = chain.since("ledger")
    return chain.append("ledger", events_of_ledger(storage, "app", since), NOW)


def told(chain):
    return [(entry["who"], entry["did"]) for entry in chain.entries() if entry["source"] == "ledger"]


def gate(by, released, **fields):
    return GateRecord(
        application="app", version="3", model_digest="m" * 64, champion_digest="c" * 64, evaluation="e",
        evaluation_digest="e" * 64, policy="p" * 64, verdict=Verdict.WARN, reasons=["a little worse"], numbers={},
        released=released, by=by, decided=NOW, **fields,
    )  # fmt: skip


def test_the_story_of_a_retraining_is_told_with_who_and_why(storage):
    ledger, chain = Ledger(storage, "app"), Chain(storage)
    trip(storage, now=NOW)
    orders.claim(ledger, "app_finetune", "run-1", NOW + timedelta(minutes=1))
    orders.close(ledger, outcome(1, now=NOW + timedelta(minutes=2), run_id="run-1", model_version="3"))
    ledger.create(Release(number=1, model_digest="m" * 64, version="3", released=NOW + timedelta(minutes=3)))
    collect(storage, chain)
    assert told(chain) == [
        ("policy", "ordered a retraining"),
        ("run-1", "took up a retraining"),
        ("run-1", "ended a retraining as registered"),
        ("release", "made a version the champion"),
    ]
    order = next(entry for entry in chain.entries() if entry["did"] == "ordered a retraining")
    assert "2 of the newest 2 intervals with a verdict failed" in order["details"]["reason"]
    assert (order["application"], order["to"]) == ("app", {"retraining": "1"})


def test_what_people_decide_carries_their_names_and_reasons(storage):
    ledger, chain = Ledger(storage, "app"), Chain(storage)
    orders.force(ledger, "forced-1", reason="new products", by="alice", now=NOW)
    ledger.create(Snooze(id="s", until=NOW + timedelta(days=7), reason="holidays", by="bob", created=NOW))
    ledger.create(
        Request(
            id="20261124T060000-m", version="3", model_digest="m" * 64, evaluation_digest="e" * 64, champion_digest=None,
            verdict=Verdict.WARN, subject="Release version 3?", dag_id="app_release", run_id="r", task_id="approve",
            approvers=["carol"], asked=NOW, until=NOW + timedelta(days=1),
        )
    )  # fmt: skip
    ledger.create(Answer(id="20261124T060000-m", answer="approved", by="carol", reason="looks right", answered=NOW))
    record(Ledger(storage, "app"), gate("looks right", True, person="carol"))
    collect(storage, chain)
    entries = {entry["did"]: entry for entry in chain.entries()}
    assert entries["forced a retraining"]["who"] == "alice"
    assert "new products" in entries["forced a retraining"]["details"]["reason"]
    assert entries["snoozed retraining"]["who"] == "bob"
    assert entries["snoozed retraining"]["details"]["reason"] == "holidays"
    assert entries["asked for approval"]["details"]["approvers"] == ["carol"]
    assert (entries["approved a release"]["who"], entries["released a version"]["who"]) == ("carol", "carol")
    assert entries["approved a release"]["details"]["reason"] == "looks right"


def test_who_judged_an_answer_is_told_with_the_reason_and_without_the_texts(storage):
    ledger, chain = Ledger(storage, "app"), Chain(storage)
    said = Review(
        interval="2026-11-03", key="k-1", digest="d", chosen="lowest", version="3", good=False, correction="On Friday.",
        reason="It is rude.", by="ann", at=NOW,
    )  # fmt: skip
    keep(ledger.home, said)
    collect(storage, chain)
    keep(ledger.home, said.model_copy(update={"by": "ben", "good": True, "correction": "", "reason": ""}))
    collect(storage, chain)
    collect(storage, chain)
    assert told(chain) == [("ann", "judged an answer as bad"), ("ben", "judged an answer as good")]
    first = next(entry for entry in chain.entries() if entry["who"] == "ann")
    assert first["to"] == {"review": "2026-11-03/k-1", "version": "3"}
    assert first["details"] == {"reason": "It is rude.", "chosen as": "lowest", "corrected": True}


def test_who_chose_between_two_answers_is_told_with_the_versions(storage):
    ledger, chain = Ledger(storage, "app"), Chain(storage)
    said = Review(
        interval="2026-11-03", key="k-1", digest="d", chosen="pair", version="3", good=True, reason="Clearer.", shadow="s1",
        candidate="4", better="candidate", first="champion", by="ann", at=NOW,
    )  # fmt: skip
    keep(ledger.home, said)
    collect(storage, chain)
    entry = next(entry for entry in chain.entries() if entry["who"] == "ann")
    assert (entry["did"], entry["to"]) == ("chose between two answers", {"review": "s1/k-1", "version": "3"})
    assert entry["details"] == {"reason": "Clearer.", "candidate": "4", "better": "candidate"}


def test_a_release_that_its_watch_takes_back_is_its_deed_and_no_persons(storage):
    record(Ledger(storage, "app"), gate("watch", True))
    (event,) = events_of_ledger(storage, "app", None)
    assert (event.who, event.did, event.details["reasons"]) == ("watch", "released a version", ["a little worse"])


def test_what_the_gate_alone_holds_back_is_nobodys_deed(storage):
    record(Ledger(storage, "app"), gate("gate", False))
    assert list(events_of_ledger(storage, "app", None)) == []


def test_collecting_again_adds_nothing_and_a_changed_record_is_told_again(storage):
    ledger, chain = Ledger(storage, "app"), Chain(storage)
    trip(storage, now=NOW)
    orders.close(ledger, outcome(1, "failed", now=NOW))
    assert collect(storage, chain) == 2
    assert collect(storage, chain) == 0
    orders.close(ledger, outcome(1, "registered", now=NOW))
    assert collect(storage, chain) == 1
    assert told(chain)[-1] == ("policy", "ended a retraining as registered")


def test_what_is_no_record_is_told_as_that_and_holds_nothing_up(tmp_path):
    storage = tmp_path.as_uri()
    trip(storage, now=NOW)
    (tmp_path / "app" / "ledger" / "snoozes").mkdir()
    (tmp_path / "app" / "ledger" / "snoozes" / "x.json").write_text("until tomorrow")
    chain = Chain(storage)
    assert collect(storage, chain) == 2
    assert ("somebody", "wrote what is no record of the ledger") in told(chain)


TIME = '"2026-11-24T06:00:00Z"'
HOSTILE = [
    f'{{"id": "s", "until": "2026-11-24T06:00:00", "reason": "r", "by": "b", "created": {TIME}}}',  # one time has no offset
    f'{{"id": "s", "until": {TIME}, "reason": ["r"], "by": "b", "created": {TIME}}}',
    f'{{"id": "s", "until": {TIME}, "reason": "\\ud800", "by": "b", "created": {TIME}}}',
    f'{{"id": "s", "until": {TIME}, "reason": "r", "by": "b", "created": {"9" * 5_000}}}',
    f'{{"id": "s", "until": {TIME}, "reason": "r", "by": "b", "created": NaN}}',
    f'{{"id": "s", "until": {TIME}, "reason": "r", "created": {TIME}}}',
    '{"id": ' + "[" * 100_000, "\0", "", "null", "[]",
]  # fmt: skip


def test_no_record_keeps_another_from_the_log_whatever_it_holds(tmp_path):
    storage, chain = tmp_path.as_uri(), Chain(tmp_path.as_uri())
    folder = tmp_path / "app" / "ledger" / "snoozes"
    folder.mkdir(parents=True)
    for number, content in enumerate(HOSTILE):
        (folder / f"{number}.json").write_text(content)
    (folder / os.fsdecode(b"\xff.json")).write_text("{}")
    Ledger(storage, "app").create(
        Snooze(id="z" * 99, until=NOW, reason="\0" + "x" * 1_000_000, by="b" * 1_000_000, created=NOW.replace(year=1))
    )
    assert collect(storage, chain) == len(HOSTILE) + 2
    assert told(chain).count(("somebody", "wrote what is no record of the ledger")) == len(HOSTILE) + 1
    assert verify(chain, []).problems == []
    assert max(map(len, map(str, chain.entries()))) < 10_000


def test_what_storage_does_not_give_is_read_again_and_keeps_no_other_application_from_the_log(tmp_path):
    storage, chain = tmp_path.as_uri(), Chain(tmp_path.as_uri())
    for name in ("app", "bank", "shop"):
        Ledger(storage, name).create(Snooze(id="s", until=NOW, reason="r", by=name, created=NOW))
    hidden = tmp_path / "app" / "ledger" / "snoozes" / "a.json"
    hidden.symlink_to(hidden)  # a loop: storage lists it and refuses it
    shutil.move(tmp_path / "bank" / "ledger", tmp_path / "away")
    (tmp_path / "bank" / "ledger").symlink_to(tmp_path / "bank" / "ledger")

    def collected():
        events = all_ledger_events(storage, ["app", "bank", "shop"], chain.since("ledger"))
        return chain.append("ledger", events, NOW + timedelta(days=1))

    for _ in range(2):
        with pytest.raises(BadEnvironment, match=r"the ledger of app could not be read whole: .*a\.json"):
            collected()
        assert {who for who, _ in told(chain)} == {"app", "shop"}
        assert chain.since("ledger") is None
    hidden.unlink()
    (tmp_path / "bank" / "ledger").unlink()
    shutil.move(tmp_path / "away", tmp_path / "bank" / "ledger")
    assert collected() == 1
    assert [who for who, _ in told(chain)] == ["app", "shop", "bank"]


def test_a_record_that_is_written_with_an_old_time_is_seen_all_the_same(tmp_path):
    storage = tmp_path.as_uri()
    chain = Chain(storage)
    trip(storage, now=NOW)
    chain.append("ledger", events_of_ledger(storage, "app", None), NOW)
    orders.close(Ledger(storage, "app"), outcome(1, now=NOW - timedelta(days=30)))
    os.utime(tmp_path / "app" / "ledger" / "outcomes" / "0001.json", (1, time.time() - 90 * 86_400))
    assert collect(storage, chain) == 1


def test_an_application_without_a_ledger_says_nothing(storage):
    assert APP.name == "app"
    assert list(events_of_ledger(storage, "newcomer", None)) == []
