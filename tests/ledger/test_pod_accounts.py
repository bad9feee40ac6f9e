"""The accounts of pods: each pod once, found by its DAG run."""

from datetime import timedelta

from kept_pods import NOW, keep, pod
from upath import UPath

from nightshift.ledger.pod_accounts import pods_of_run, pods_of_runs, total

TODAY = NOW.date()


def names(pods):
    return sorted(one.pod for one in pods)


def test_a_run_over_many_days_is_never_summed_up_by_its_last_days_alone(storage):
    old, older = NOW - timedelta(days=9), NOW - timedelta(days=10)
    another = pod("another", ended=older, run_id="r0")
    keep(storage, pod("first", ended=older), pod("second", ended=old), pod("third"), another)
    (run,) = pods_of_runs(storage, "bank", TODAY, days=2, longest=31)
    assert names(run) == ["first", "second", "third"]
    key = run[0].run_key
    assert names(pods_of_run(storage, "bank", key, older.date(), TODAY)) == ["first", "second", "third"]
    assert names(pods_of_run(storage, "bank", key, older.date(), old.date())) == ["first", "second"]


def test_a_pod_that_is_written_down_twice_is_one_account(storage):
    keep(storage, pod("train-1"), pod("train-1"))
    assert len(list((UPath(storage) / "bank" / "usage").glob("*/*.json"))) == 1


def test_what_is_no_account_is_left_out(storage):
    address = keep(storage, pod("train-1"), pod("train-2"))
    address.write_text("{}")
    (run,) = pods_of_runs(storage, "bank", TODAY, days=2, longest=31)
    assert names(run) == ["train-1"]


def test_nothing_used_is_nothing(storage):
    assert pods_of_runs(storage, "bank", TODAY, days=2, longest=31) == []
    assert total([]).model_dump() == {"pods": 0, "pod_hours": 0.0, "gpu_hours": 0.0, "cost": 0.0}
