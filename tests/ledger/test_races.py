"""Many who decide, claim and give up at once: one order, and one training for it."""

import multiprocessing
import threading
from datetime import timedelta

from ledger_intervals import APP, NOW, everywhere, outcome, planted, publish_interval, shared, trip

from nightshift.ledger import orders
from nightshift.ledger.store import Ledger


def _evaluate(storage, night, barrier, answers):
    barrier.wait()
    answers.append(orders.evaluate(APP, Ledger(storage, "app"), night, NOW))


def race(target, argument_lists):
    """Run `target` in as many threads, all at once."""
    threads = [threading.Thread(target=target, args=arguments) for arguments in argument_lists]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@everywhere
def test_of_many_deciders_at_once_one_orders_and_all_say_the_same(storage):
    night = [publish_interval(storage, day, "FAIL") for day in (22, 23)][1]
    barrier, answers = threading.Barrier(8), []
    race(_evaluate, [(storage, night, barrier, answers)] * 8)
    assert len(answers) == 8
    assert {answer.order for answer in answers} == {1}
    assert len({answer.id for answer in answers}) == 1
    assert list(Ledger(storage, "app").orders()) == [1]


@shared
def test_of_deciders_about_different_nights_at_once_one_orders_and_the_others_see_it_open(storage):
    given = [publish_interval(storage, day, "FAIL") for day in range(18, 24)]
    barrier, answers = threading.Barrier(6), []
    race(_evaluate, [(storage, night, barrier, answers) for night in given])
    assert sorted(answer.code for answer in answers) == ["open"] * 5 + ["tripped"]
    assert list(Ledger(storage, "app").orders()) == [1]


def _claim(storage, run, queue):
    order, told = orders.claim(Ledger(storage, "app"), "app_finetune", run, NOW)
    queue.put((run, order.number if order else None, told))


def test_a_claim_whose_answer_was_lost_is_its_runs_own(tmp_path, monkeypatch):
    trip(tmp_path.as_uri())
    ledger = Ledger(tmp_path.as_uri(), "app")
    create = ledger.create
    monkeypatch.setattr(
        ledger, "create", lambda record: create(record) and False
    )  # as a client that tried again by itself
    order, _ = orders.claim(ledger, "app_finetune", "run-1", NOW)
    assert order.number == 1


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
    ledger, trained = Ledger(storage, "app"), []
    orders.evaluate(APP, Ledger(storage, "app"), planted(22, "FAIL"), NOW)
    orders.evaluate(APP, Ledger(storage, "app"), planted(23, "FAIL"), NOW)
    for wake in range(3):
        order, _ = orders.claim(ledger, "app_finetune", f"{run}-{wake}", NOW)
        if order:
            trained.append(order.number)
            orders.close(ledger, outcome(order.number))
    queue.put(trained)


@shared
def test_two_schedulers_with_doubled_events_train_once(storage):
    publish_interval(storage, 21, "FAIL")  # so that each planted night is the second that failed
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_evaluate_and_train, args=(storage, f"s{n}", queue)) for n in range(2)]
    for process in processes:
        process.start()
    trained = [number for _ in processes for number in queue.get(timeout=60)]
    for process in processes:
        process.join()
    orders = Ledger(storage, "app").orders()
    assert sorted(trained) == sorted(orders)
    # The second night may only have tripped once the first one's retraining had ended.
    assert [order.decision.id[:10] for order in orders.values()] in (["2026-11-22"], ["2026-11-22", "2026-11-23"])


@shared
def test_giving_up_an_order_and_claiming_it_at_once_never_both_succeed(storage):
    ledger = Ledger(storage, "app")
    late = NOW
    publish_interval(storage, 21, "FAIL")
    for round_number in range(3):
        orders.evaluate(APP, Ledger(storage, "app"), publish_interval(storage, 22 + round_number, "FAIL"), late)
        number = max(ledger.orders())
        late += timedelta(hours=49)
        barrier, given, lost = threading.Barrier(2), [], []

        def claim(moment=late, barrier=barrier, given=given):
            barrier.wait()
            given.append(orders.claim(Ledger(storage, "app"), "f", "a", moment)[0])

        def give_up(moment=late, barrier=barrier, lost=lost):
            barrier.wait()
            lost.extend(orders.close_lost(Ledger(storage, "app"), moment, 48))

        race(lambda do: do(), [(claim,), (give_up,)])
        assert (given[0] is not None) != (len(lost) == 1)
        orders.close(ledger, outcome(number, now=late))
