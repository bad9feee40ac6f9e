"""The ledger: whatever is doubled, lost, late or killed, each trip gives one order, and each order one training."""

import multiprocessing
import shutil
import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from nightshift.config import Application, Interval
from nightshift.data.partition import digest_of, partition_of, publish
from nightshift.data.storage import scratch
from nightshift.errors import BadInput
from nightshift.monitoring import history, ledger
from nightshift.monitoring.policy import Night, Outcome, Release, Snooze
from nightshift.monitoring.records import Records

NOW = datetime(2026, 11, 24, 6, tzinfo=UTC)
CHAMPION = "c" * 64
APP = Application(
    name="app",
    sources=[{"uri": "/data/*.csv", "columns": {"prompt": "text"}}],
    retraining={"min_new_examples": 0, "cooldown_days": 0},
)


@pytest.fixture(params=["file"])
def storage(request, tmp_path):
    """URI of empty storage: a folder; with `everywhere` also this process's memory and a bucket."""
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}"
    return tmp_path.as_uri() if request.param == "file" else f"memory://{uuid.uuid4().hex}"


everywhere = pytest.mark.parametrize(
    "storage", ["file", "memory", pytest.param("s3", marks=pytest.mark.slow)], indirect=True
)
shared = pytest.mark.parametrize(
    "storage", ["file", pytest.param("s3", marks=pytest.mark.slow)], indirect=True
)  # what several processes can reach


def publish_night(storage, day, verdict, *, model=CHAMPION, version=1):
    """A night as the drift job publishes it."""
    start = datetime(2026, 11, day, tzinfo=UTC)
    interval = Interval(start=start, end=start + timedelta(days=1))
    inputs = {"day": day, "model": model, "version": version}
    partition = partition_of(storage, "app", "drift", interval.key, digest_of(inputs)[:16])
    folder = scratch(partition)
    (folder / "verdict.json").write_text(f'"{verdict} {version}"')
    manifest = publish(
        partition,
        folder,
        kind="drift",
        application="app",
        interval=interval,
        inputs=inputs,
        facts={
            "monitor": "drift", "interval": interval.key, "verdict": verdict, "model_digest": model,
            "model_version": "3", "rows": 300, "failing": ["exact_match"] if verdict == "FAIL" else [],
            "worst": "exact_match", "worst_segment": None, "reasons": [], "interactions": "",
        },
    )  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    return history.night_of(partition, manifest)


def planted(day, verdict, version=1):
    """The same night without a partition, for tests that only need what is decided now."""
    return Night(
        monitor="drift", interval=f"2026-11-{day:02d}", verdict=verdict, model_digest=CHAMPION, report=f"r/{day}",
        report_digest=digest_of([day, version]), created=NOW,
    )  # fmt: skip


def trip(storage, first=22, now=NOW):
    """Two failing nights; the decision after the second."""
    ledger.evaluate(APP, storage, publish_night(storage, first, "FAIL"), now)
    return ledger.evaluate(APP, storage, publish_night(storage, first + 1, "FAIL"), now)


def outcome(number, result="registered", now=NOW, **fields):
    return Outcome(number=number, result=result, explanation="as it went", ended=now, **fields)


@everywhere
def test_every_evaluation_is_kept_with_its_numbers_also_no(storage):
    for day, verdict in [(21, "PASS"), (22, "FAIL"), (23, "FAIL")]:
        ledger.evaluate(APP, storage, publish_night(storage, day, verdict), NOW + timedelta(minutes=day))
    decisions = Records(storage, "app").decisions()
    assert [decision.code for decision in decisions] == ["quiet", "too_few_nights", "tripped"]
    assert [decision.numbers["nights_failed"] for decision in decisions] == [0, 1, 2]
    assert [decision.order for decision in decisions] == [None, None, 1]
    assert decisions[2].reports == [night.report for night in reversed(history.nights(storage, "app")[1:])]


def test_evaluating_the_same_report_again_gives_the_stored_decision_and_no_second_order(storage):
    first = trip(storage)
    night = publish_night(storage, 23, "FAIL")
    again = ledger.evaluate(APP, storage, night, NOW + timedelta(days=30))
    assert again == first
    ledger.close(Records(storage, "app"), outcome(1))
    assert ledger.evaluate(APP, storage, night, NOW + timedelta(days=30)) == first
    assert list(Records(storage, "app").orders()) == [1]


def test_a_night_judged_anew_is_decided_anew_and_only_its_newest_verdict_counts(storage):
    ledger.evaluate(APP, storage, publish_night(storage, 22, "FAIL"), NOW)
    ledger.evaluate(APP, storage, publish_night(storage, 22, "PASS", version=2), NOW)
    decision = ledger.evaluate(APP, storage, publish_night(storage, 23, "FAIL"), NOW)
    assert decision.code == "too_few_nights"
    assert len(Records(storage, "app").decisions()) == 3


@everywhere
def test_killed_between_the_order_and_the_record_of_the_decision_the_same_decision_is_found(storage, monkeypatch):
    ledger.evaluate(APP, storage, publish_night(storage, 22, "FAIL"), NOW)
    night = publish_night(storage, 23, "FAIL")

    class Killed(BaseException):
        pass

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_keep", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            ledger.evaluate(APP, storage, night, NOW)
    records = Records(storage, "app")
    assert (list(records.orders()), len(records.decisions())) == ([1], 1)
    # Meanwhile the retraining ends: the decision that led to it is found all the same.
    ledger.close(records, outcome(1))
    later = ledger.evaluate(APP, storage, night, NOW + timedelta(days=9))
    assert (later.code, later.order, later.decided) == ("tripped", 1, NOW)
    assert records.decision(later.id) == later
    assert list(records.orders()) == [1]


def test_a_second_trip_waits_for_the_first_retraining_to_end(storage):
    records = Records(storage, "app")
    assert trip(storage).order == 1
    third = ledger.evaluate(APP, storage, publish_night(storage, 24, "FAIL"), NOW)
    assert (third.action, third.code) == ("none", "open")
    ledger.close(records, outcome(1))
    assert ledger.evaluate(APP, storage, publish_night(storage, 25, "FAIL"), NOW + timedelta(hours=1)).order == 2


def test_after_a_release_the_nights_before_it_count_for_nothing(storage):
    trip(storage)
    records = Records(storage, "app")
    ledger.close(records, outcome(1))
    records.replace(Release(model_digest="d" * 64, released=datetime.now(UTC)))
    decision = ledger.evaluate(APP, storage, publish_night(storage, 24, "FAIL"), NOW)
    assert decision.code == "too_few_nights"
    assert "4 nights" not in decision.reason
    assert "3 nights were judged against other models" in decision.reason
    assert trip(storage, first=25).code == "too_few_nights"
    ledger.evaluate(APP, storage, publish_night(storage, 27, "FAIL", model="d" * 64), NOW)
    assert ledger.evaluate(APP, storage, publish_night(storage, 28, "FAIL", model="d" * 64), NOW).order == 2


def test_nights_without_data_are_no_pass_and_order_nothing(storage):
    codes = [
        ledger.evaluate(APP, storage, publish_night(storage, day, "INSUFFICIENT_DATA"), NOW).code for day in (21, 22)
    ]
    assert codes == ["no_data", "no_data"]


def _evaluate(storage, night, barrier, answers):
    barrier.wait()
    answers.append(ledger.evaluate(APP, storage, night, NOW))


def race(target, argument_lists):
    """Run `target` in as many threads, all at once."""
    threads = [threading.Thread(target=target, args=arguments) for arguments in argument_lists]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@everywhere
def test_of_many_deciders_at_once_one_orders_and_all_say_the_same(storage):
    night = [publish_night(storage, day, "FAIL") for day in (22, 23)][1]
    barrier, answers = threading.Barrier(8), []
    race(_evaluate, [(storage, night, barrier, answers)] * 8)
    assert len(answers) == 8
    assert {answer.order for answer in answers} == {1}
    assert len({answer.id for answer in answers}) == 1
    assert list(Records(storage, "app").orders()) == [1]


@shared
def test_of_deciders_about_different_nights_at_once_one_orders_and_the_others_see_it_open(storage):
    given = [publish_night(storage, day, "FAIL") for day in range(18, 24)]
    barrier, answers = threading.Barrier(6), []
    race(_evaluate, [(storage, night, barrier, answers) for night in given])
    assert sorted(answer.code for answer in answers) == ["open"] * 5 + ["tripped"]
    assert list(Records(storage, "app").orders()) == [1]


def _claim(storage, run, queue):
    order, told = ledger.claim(Records(storage, "app"), "app_finetune", run, NOW)
    queue.put((run, order.number if order else None, told))


@shared
def test_of_many_processes_that_claim_at_once_one_trains(storage):
    trip(storage)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_claim, args=(storage, f"run-{n}", queue)) for n in range(4)]
    for process in processes:
        process.start()
    answers = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    (winner,) = [run for run, number, _ in answers if number == 1]
    assert {told for run, _, told in answers if run != winner} == {f"retraining 1 is the work of {winner}"}


def _evaluate_and_train(storage, run, queue):
    """What one scheduler of two does for a night: decide, be woken, claim, train, close; and be woken once more."""
    records, trained = Records(storage, "app"), []
    ledger.evaluate(APP, storage, planted(22, "FAIL"), NOW)
    ledger.evaluate(APP, storage, planted(23, "FAIL"), NOW)
    for wake in range(3):
        order, _ = ledger.claim(records, "app_finetune", f"{run}-{wake}", NOW)
        if order:
            trained.append(order.number)
            ledger.close(records, outcome(order.number))
    queue.put(trained)


@shared
def test_two_schedulers_with_doubled_events_train_once(storage):
    publish_night(storage, 21, "FAIL")  # so that each planted night is the second that failed
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_evaluate_and_train, args=(storage, f"s{n}", queue)) for n in range(2)]
    for process in processes:
        process.start()
    trained = [number for _ in processes for number in queue.get(timeout=60)]
    for process in processes:
        process.join()
    orders = Records(storage, "app").orders()
    assert sorted(trained) == sorted(orders)
    # The second night may only have tripped once the first one's retraining had ended.
    assert [order.decision.id[:10] for order in orders.values()] in (["2026-11-22"], ["2026-11-22", "2026-11-23"])


@everywhere
def test_a_run_that_asks_again_gets_its_order_again_and_others_get_nothing(storage):
    records = Records(storage, "app")
    assert ledger.claim(records, "f", "a", NOW) == (None, "no retraining is ordered")
    trip(storage)
    for _ in range(2):
        order, reason = ledger.claim(records, "f", "a", NOW)
        assert order.number == 1
        assert reason.startswith("2 of the newest 2 nights")
    assert ledger.claim(records, "f", "b", NOW) == (None, "retraining 1 is the work of a")
    ledger.close(records, outcome(1))
    assert ledger.claim(records, "f", "b", NOW) == (None, "no retraining is ordered")
    assert ledger.claim(records, "f", "a", NOW)[0] is None


def test_a_failed_retraining_blocks_nobody_and_can_be_started_over_by_its_run(storage):
    records = Records(storage, "app")
    trip(storage)
    ledger.claim(records, "f", "a", NOW)
    ledger.close(records, outcome(1, "failed"))
    assert ledger.claim(records, "f", "b", NOW) == (None, "no retraining is ordered")
    assert ledger.claim(records, "f", "a", NOW)[0].number == 1
    assert ledger.close(records, outcome(1, "registered", model_version="4")).model_version == "4"
    assert records.outcome(1).result == "registered"
    assert ledger.close(records, outcome(1, "failed")).result == "registered"


@everywhere
def test_an_order_that_nobody_claims_is_given_up_and_the_next_trip_orders_anew(storage):
    records = Records(storage, "app")
    trip(storage)
    late = NOW + timedelta(hours=49)
    decision = ledger.evaluate(APP, storage, publish_night(storage, 24, "FAIL"), late)
    assert (decision.code, decision.order) == ("tripped", 2)
    assert records.outcome(1).result == "lost"
    assert records.outcome(1).explanation == "no run claimed it for more than 48 hours"
    order, _ = ledger.claim(records, "f", "late-run", late)
    assert order.number == 2


def test_an_order_is_not_lost_while_its_run_may_still_train(storage):
    records = Records(storage, "app")
    trip(storage)
    ledger.claim(records, "f", "a", NOW + timedelta(hours=40))
    night = publish_night(storage, 24, "FAIL")
    assert ledger.evaluate(APP, storage, night, NOW + timedelta(hours=60)).code == "open"
    night = publish_night(storage, 25, "FAIL")
    assert ledger.evaluate(APP, storage, night, NOW + timedelta(hours=89)).order == 2
    assert records.outcome(1).explanation == "a did not end it for more than 48 hours"
    # It was only slow: its model is there, and the ledger says so.
    assert ledger.close(records, outcome(1)).result == "registered"


@shared
def test_giving_up_an_order_and_claiming_it_at_once_never_both_succeed(storage):
    records = Records(storage, "app")
    late = NOW
    publish_night(storage, 21, "FAIL")
    for round_number in range(3):
        ledger.evaluate(APP, storage, publish_night(storage, 22 + round_number, "FAIL"), late)
        number = max(records.orders())
        late += timedelta(hours=49)
        barrier, given, lost = threading.Barrier(2), [], []

        def claim(moment=late, barrier=barrier, given=given):
            barrier.wait()
            given.append(ledger.claim(Records(storage, "app"), "f", "a", moment)[0])

        def give_up(moment=late, barrier=barrier, lost=lost):
            barrier.wait()
            lost.extend(ledger.close_lost(Records(storage, "app"), moment, 48))

        race(lambda do: do(), [(claim,), (give_up,)])
        assert (given[0] is not None) != (len(lost) == 1)
        ledger.close(records, outcome(number, now=late))


def test_a_person_forces_one_retraining_past_the_snooze_but_not_a_second_open_one(storage):
    records = Records(storage, "app")
    records.create(Snooze(id="s", until=NOW + timedelta(days=3), reason="holidays", by="ana", created=NOW))
    assert trip(storage).code == "snoozed"
    wish = {"reason": "the new tariff is out", "by": "ben", "now": NOW}
    forced = ledger.force(records, "forced-1", **wish)
    assert (forced.code, forced.order, forced.reason) == ("forced", 1, "ben forced it: the new tariff is out")
    assert ledger.force(records, "forced-1", **wish) == forced
    assert ledger.force(records, "forced-2", **wish) is None
    ledger.close(records, outcome(1))
    assert ledger.force(records, "forced-1", **wish) == forced
    assert ledger.force(records, "forced-2", **wish).order == 2


def test_the_newest_snooze_counts_also_one_that_ends_them(storage):
    records = Records(storage, "app")
    for number, (hours, days) in enumerate([(2, 9), (1, 30), (3, 0)]):
        at = NOW - timedelta(days=1) + timedelta(hours=hours)
        records.create(Snooze(id=f"s{number}", until=at + timedelta(days=days), reason="…", by="ana", created=at))
    assert records.snooze().id == "s2"
    assert trip(storage).code == "tripped"


def test_a_damaged_record_is_an_error_that_names_it_and_never_a_no(tmp_path):
    trip(tmp_path.as_uri())
    (tmp_path / "app/ledger/orders/0001.json").write_text("{}")
    with pytest.raises(BadInput, match=r"ledger/orders/0001\.json: not a record of the ledger"):
        ledger.claim(Records(tmp_path.as_uri(), "app"), "f", "a", NOW)


def test_closing_an_order_that_never_was_is_refused(storage):
    with pytest.raises(BadInput, match="there is no order 7"):
        ledger.close(Records(storage, "app"), outcome(7))
