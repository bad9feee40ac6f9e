"""The watch ends when it is asked to, but never between a scheduler that it stopped and the record of the next."""

import os
import signal
from collections.abc import Iterator

import pytest

from nightshift.stack.watch import Ending


@pytest.fixture
def ending() -> Iterator[Ending]:
    before = signal.getsignal(signal.SIGTERM)
    yield Ending()
    signal.signal(signal.SIGTERM, before)


def ask() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_it_ends_at_once_between_two_looks(ending: Ending) -> None:
    with pytest.raises(SystemExit):
        ask()


def test_asked_during_a_restart_it_knows_and_ends_after_it(ending: Ending) -> None:
    steps = []

    def restart() -> None:
        with ending.held():
            ask()
            steps.append("the scheduler is stopped")
            steps.append("not started again" if ending.asked else "started again")

    with pytest.raises(SystemExit):
        restart()
    assert steps == ["the scheduler is stopped", "not started again"]


def test_after_a_restart_it_ends_at_once_again(ending: Ending) -> None:
    with ending.held():
        pass

    with pytest.raises(SystemExit):
        ask()
