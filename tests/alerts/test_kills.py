"""SIGKILL before every single write of an alert's life: nothing is lost, and what comes twice can be told."""

import os
import signal
import time
from datetime import timedelta

import pytest
from told import application, drift, passed

from nightshift.alerts import delivery, outbox
from nightshift.alerts.delivery import deliver
from nightshift.alerts.outbox import Outbox

MAIL = {"to": "ops_mail", "mail": ["ops@example.org"]}
LIFE = 0.15  # seconds that a killed sender keeps others from sending


@pytest.fixture(autouse=True)
def short_leases(monkeypatch):
    monkeypatch.setattr(delivery, "SEND_SECONDS", 5)
    monkeypatch.setattr(Outbox, "lease", lambda self, _seconds, real=Outbox.lease: real(self, LIFE))


def killed_before(write: int, work) -> bool:
    """Do work in a process that SIGKILL ends before its nth write to storage; return whether it came so far."""
    child = os.fork()
    if child == 0:
        _die_before(write)
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _die_before(write: int) -> None:
    done = 0

    def counted(real):
        def call(*arguments):
            nonlocal done
            done += 1
            if done == write:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)

        return call

    outbox.create, outbox.replace = counted(outbox.create), counted(outbox.replace)
    Outbox._remove = counted(Outbox._remove)


def told(storage: str) -> None:
    """What a task does: tell, and send at once."""
    box = Outbox(storage, "bank")
    box.accept(drift())
    deliver(application(MAIL), box, seconds=5, rest_after_trouble=timedelta(0))


def recovered(storage: str) -> None:
    box = Outbox(storage, "bank")
    box.accept(passed("2026-11-21"))
    deliver(application(MAIL), box, seconds=5, rest_after_trouble=timedelta(0))


def again_and_drained(work, storage: str) -> Outbox:
    """The killed task is tried again, and the DAG delivers when the lease of the killed one has run out."""
    work(storage)
    time.sleep(LIFE)
    box = Outbox(storage, "bank")
    deliver(application(MAIL), box, seconds=5, rest_after_trouble=timedelta(0))
    return box


@pytest.mark.slow
def test_a_task_killed_before_any_write_of_an_alert_loses_nothing(tmp_path, mails):
    write = 1
    while True:
        storage = (tmp_path / str(write)).as_uri()
        mails.taken.clear()
        came = killed_before(write, lambda: told(storage))  # noqa: B023
        box = again_and_drained(told, storage)
        assert box.undelivered() == []
        assert [held.count for held in box.held()] == [1]
        assert 1 <= len(mails.taken) <= 2
        assert len({mail["Message-ID"] for mail in mails.taken}) == 1
        assert {message.subject for message in box.messages(10)} == {"[bank] WARNING: drift in the interval 2026-11-20"}
        if not came:
            break
        write += 1
    assert write > 8


@pytest.mark.slow
def test_a_task_killed_before_any_write_of_a_recovery_tells_it_all_the_same(tmp_path, mails):
    write = 1
    while True:
        storage = (tmp_path / str(write)).as_uri()
        told(storage)
        mails.taken.clear()
        came = killed_before(write, lambda: recovered(storage))  # noqa: B023
        box = again_and_drained(recovered, storage)
        assert (box.open(), box.undelivered()) == ([], [])
        assert 1 <= len(mails.taken) <= 2
        assert len({mail["Message-ID"] for mail in mails.taken}) == 1
        assert all("recovered" in mail["Subject"] for mail in mails.taken)
        if not came:
            break
        write += 1
    assert write > 7


def test_an_alert_of_a_task_that_is_never_tried_again_is_sent_by_the_dag(tmp_path, mails):
    storage = tmp_path.as_uri()
    assert killed_before(2, lambda: Outbox(storage, "bank").accept(drift()))
    deliver(application(MAIL), Outbox(storage, "bank"), seconds=5, rest_after_trouble=timedelta(0))
    assert len(mails.taken) == 1
    assert [alert.night for alert in Outbox(storage, "bank").open()] == ["2026-11-20"]


@pytest.mark.parametrize("write", [2, 3])
def test_a_recovery_of_a_task_that_is_never_tried_again_ends_what_held_and_comes_once(tmp_path, mails, write):
    storage, app = tmp_path.as_uri(), application(MAIL)
    told(storage)
    assert killed_before(write, lambda: Outbox(storage, "bank").accept(passed("2026-11-21")))
    box = Outbox(storage, "bank")
    deliver(app, box, seconds=5, rest_after_trouble=timedelta(0))
    assert box.open() == []
    box.accept(drift("2026-11-22"))
    box.accept(passed("2026-11-23"))
    deliver(app, box, seconds=5, rest_after_trouble=timedelta(0))
    subjects = [mail["Subject"] for mail in mails.taken]
    assert len([subject for subject in subjects if "recovered" in subject and "2026-11-21" in subject]) == 1
    assert "[bank] WARNING: drift in the interval 2026-11-22" in subjects
