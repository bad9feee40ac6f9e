"""What the tests of jobs on many nodes have in common: nodes that come one after the other, die, come late, are overtaken."""

import pytest
from upath import UPath

from nightshift.errors import Preempted
from nightshift.storage import sharing

NODES = 3


def node_runner(run, monkeypatch):
    """Return a function that runs a job as one of the nodes, or as the only one; `run` takes what else it is given."""

    def run_on(index=0, count=NODES, **given):
        monkeypatch.setenv("NIGHTSHIFT_NODES", str(count))
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        return run(**given)

    return run_on


def left_of(spec, kind):
    """The files of a kind of shared work that are in storage."""
    place = UPath(spec.storage) / spec.application.name / kind
    place.fs.invalidate_cache()
    return place.fs.find(place.path)


def times_called(monkeypatch, owner, name, before=lambda number: None):
    """Count the calls of a method from now on, and do something before each."""
    kept, calls = getattr(owner, name), []

    def counted(*args, **kwargs):
        calls.append(args)
        before(len(calls))
        return kept(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)
    return calls


def dies_at(number):
    def dies(call):
        if call == number:
            raise Preempted("stopped by SIGTERM")

    return dies


def dies_in(monkeypatch, run_on, index, call, *, of):
    """Run a node that dies at the given call of a method (an owner and its name)."""
    with monkeypatch.context() as deadly:
        times_called(deadly, *of, dies_at(call))
        with pytest.raises(Preempted):
            run_on(index)


def comes_late(monkeypatch, run_on, night):
    """A node looks just before the night is published, and dies after it has published what nobody needs.

    Return what was published of the night.
    """
    run_on(1), run_on(2)
    published = run_on(0)
    with monkeypatch.context() as blind:
        blind.setattr(night, "published", lambda _night: None)
        assert run_on(1) is None
    return published


def is_overtaken(monkeypatch, run_on, when, *, work, fetch):
    """Run the first node while another attempt publishes the night and removes the shared work; return both results.

    :param when: `at work`, `waiting` for others, or `joining`.
    :param work: owner and name of the method that makes a node's share.
    :param fetch: the same of the function that reads a share for joining.
    """
    finished = []

    def other_attempt(number):
        if number == 2 and not finished:
            finished.append("begun")
            for index in (1, 2, 0):
                finished[0] = run_on(index)
            monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")

    if when == "joining":
        run_on(1), run_on(2)
    owner, name = {"at work": work, "waiting": (sharing.time, "sleep"), "joining": fetch}[when]
    times_called(monkeypatch, owner, name, other_attempt)
    return run_on(0), finished[0]
