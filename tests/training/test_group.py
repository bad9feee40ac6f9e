"""Nodes that find each other: who is missing, who is gone, and what ended one of them is known to all."""

import socket
import threading
import time

import pytest

from nightshift.errors import BadEnvironment, BadInput, JobError, Preempted
from nightshift.training import group
from nightshift.training.group import gathered
from nightshift.training.layout import Layout


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    monkeypatch.setattr(group, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(group, "LINGER_SECONDS", 1)
    monkeypatch.setattr(group, "AGAIN_SECONDS", 0.05)


@pytest.fixture
def patient_parting(monkeypatch):
    """Whoever leads waits for two beats, so that its store is surely gone before it goes on."""
    monkeypatch.setattr(group, "BEAT_SECONDS", 0.5)
    monkeypatch.setattr(group, "LINGER_SECONDS", 0.2)


@pytest.fixture
def rendezvous():
    with socket.socket() as free:
        free.bind(("", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def on_nodes(rendezvous):
    """A function that does something on each of some nodes at once, and returns what each answered or raised."""

    def run(*tasks, training=("the same", "the same"), nodes=2):
        answers = {}

        def one(node, task):
            try:
                with gathered(Layout(nodes=nodes, node=node, rendezvous=rendezvous), training[node]) as group:
                    answers[node] = task(group)
            except JobError as error:
                answers[node] = error

        threads = [threading.Thread(target=one, args=each, daemon=True) for each in enumerate(tasks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        return [answers[node] for node in range(len(tasks))]

    return run


def test_all_hear_what_each_one_says(on_nodes):
    said = on_nodes(lambda group: group.together("step", "5"), lambda group: group.together("step", "7"))
    assert said == [["5", "7"], ["5", "7"]]


@pytest.mark.parametrize("failing", [0, 1])
def test_what_ends_one_node_ends_the_others_with_its_name_and_cause(on_nodes, failing):
    def fails(_group):
        raise BadInput("the loss is nan")

    def waits(group):
        return group.together("never", "-")

    tasks = [waits, waits]
    tasks[failing] = fails
    answers = on_nodes(*tasks)
    assert str(answers[failing]) == "the loss is nan"
    assert isinstance(answers[1 - failing], BadInput)
    assert str(answers[1 - failing]) == f"node {failing} ({socket.gethostname()}): the loss is nan"


def test_a_node_that_falls_silent_is_lost(on_nodes, monkeypatch):
    monkeypatch.setattr(group, "LOST_SECONDS_AFTER_A_BREAK", 1)

    def stands_still(group):
        monkeypatch.setattr(group, "_round", lambda _beat: time.sleep(2))
        time.sleep(2)

    def waits(group):
        group.shorten_patience()
        return group.together("never", "-")

    answer, _ = on_nodes(waits, stands_still)
    assert isinstance(answer, Preempted)
    assert "node 1 has not answered for 1 s" in str(answer)


@pytest.mark.usefixtures("patient_parting")
def test_without_the_first_node_the_others_end(on_nodes):
    _, answer = on_nodes(lambda _group: None, lambda group: group.together("never", "-"))
    assert isinstance(answer, Preempted)
    assert str(answer) == "node 0 is gone; all nodes must start again"


def test_nodes_that_would_train_something_else_are_refused(on_nodes):
    answers = on_nodes(lambda _group: None, lambda _group: None, training=("bf16", "fp32"))
    assert all(isinstance(answer, BadEnvironment) for answer in answers)
    assert "has training fp32, node 0" in str(answers[0])


@pytest.mark.parametrize(("node", "says"), [(0, "of 2 nodes these did not come: 1"), (1, "nothing listens there yet")])
def test_a_node_that_does_not_come_is_named_in_time(rendezvous, monkeypatch, node, says):
    monkeypatch.setenv("NIGHTSHIFT_GATHER_SECONDS", "1")
    began = time.monotonic()
    with (
        pytest.raises(BadEnvironment, match=says),
        gathered(Layout(nodes=2, node=node, rendezvous=rendezvous), "-"),
    ):
        pass
    assert time.monotonic() - began < 8


def test_a_name_that_does_not_resolve_yet_is_waited_for(monkeypatch, caplog):
    monkeypatch.setenv("NIGHTSHIFT_GATHER_SECONDS", "1")
    monkeypatch.setattr(group, "SAY_SECONDS", 0)
    place = Layout(nodes=2, node=1, rendezvous="train-0.nowhere.invalid:29400")
    with (
        caplog.at_level("INFO"),
        pytest.raises(BadEnvironment, match="its name does not resolve yet"),
        gathered(place, "-"),
    ):
        pass
    assert "waiting for node 0 at train-0.nowhere.invalid:29400: its name does not resolve yet" in caplog.text


@pytest.mark.usefixtures("patient_parting")
def test_a_node_that_was_started_again_ends_its_old_group_and_joins_the_next(rendezvous):
    outcomes = []

    def leads():
        for _attempt in range(2):
            try:
                with gathered(Layout(nodes=2, node=0, rendezvous=rendezvous), "-") as group:
                    outcomes.append(group.together("hello", "-"))
                    group.together("never" if len(outcomes) == 1 else "end", "-")
            except Preempted as error:
                outcomes.append(str(error))

    thread = threading.Thread(target=leads, daemon=True)
    thread.start()
    place = Layout(nodes=2, node=1, rendezvous=rendezvous)
    before = gathered(place, "-")
    before.__enter__().together("hello", "-")
    with gathered(place, "-") as again:
        again.together("hello", "-")
        again.together("end", "-")
    thread.join(30)
    assert not thread.is_alive()
    assert outcomes == [["-", "-"], f"node 1 ({socket.gethostname()}): it was started again", ["-", "-"]]
