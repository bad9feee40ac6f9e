"""Stopping the stack ends all of it and nothing else, whatever died before."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from nightshift.stack.processes import Component, start_lock, stop

# A leader with a child in its session; both write down that they live.
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


@pytest.fixture
def component(tmp_path: Path) -> Component:
    return Component("part", tmp_path, tmp_path)


def start(component: Component, script: str) -> str:
    """Start a Python script and return the first line that it prints."""
    component.start([sys.executable, "-c", script], dict(os.environ), component.records)
    wait_for(component.last_lines)
    return component.last_lines().strip()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_long_log_begins_anew_while_its_part_goes_on_writing(component: Component) -> None:
    start(component, "import time\nwhile True:\n    print('line', flush=True)\n    time.sleep(0.01)")
    wait_for(lambda: component.log.stat().st_size > 200)
    component.rotate_log(most=200)
    kept = component.log.with_name("part.log.1").read_bytes()
    assert set(kept.split()) == {b"line"}
    wait_for(component.last_lines)
    assert component.log.read_bytes().startswith(b"line\n")
    component.rotate_log(most=10**6)
    assert component.log.with_name("part.log.1").read_bytes() == kept
    stop([component])


def test_the_leader_and_its_children_are_stopped(component: Component) -> None:
    child = int(start(component, FAMILY))
    leader = component.leader()
    assert leader
    assert alive(child)

    assert stop([component]) == 2

    assert not alive(child)
    assert not alive(leader.pid)
    assert component.leader() is None
    assert stop([component]) == 0


def test_what_a_killed_leader_left_behind_is_stopped(component: Component) -> None:
    child = int(start(component, FAMILY))
    leader = component.leader()
    assert leader
    leader.kill()
    leader.wait(5)
    assert component.leader() is None

    assert stop([component]) == 1
    assert not alive(child)


def test_a_process_that_does_not_listen_is_killed(component: Component) -> None:
    start(component, DEAF)
    leader = component.leader()
    assert leader

    stop([component], grace_seconds=0.5)

    assert not alive(leader.pid)


def test_a_stranger_with_a_recycled_number_is_left_alone(component: Component) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        start(component, FAMILY)
        mine = component.leader()
        assert mine
        record = json.loads(component.record.read_text())
        stop([component])
        component.record.write_text(json.dumps({**record, "pid": stranger.pid, "started": record["started"] - 1000}))

        assert component.leader() is None
        assert stop([component]) == 0
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_record_of_before_the_last_boot_means_nothing(component: Component) -> None:
    start(component, FAMILY)
    record = json.loads(component.record.read_text())
    try:
        component.record.write_text(json.dumps({**record, "boot": "another"}))
        assert component.leader() is None
        assert component.members() == []
    finally:
        os.killpg(record["pid"], signal.SIGKILL)


def test_a_torn_record_means_nothing(component: Component) -> None:
    component.record.write_text('{"pid": 1')

    assert component.leader() is None
    assert stop([component]) == 0


def test_two_never_start_components_at_once_and_who_does_not_wait_is_told(tmp_path: Path) -> None:
    waits, entered = threading.Event(), threading.Event()

    def second() -> None:
        with start_lock(tmp_path, waits.set) as alone:
            assert alone
            entered.set()

    with start_lock(tmp_path) as alone:
        assert alone
        with start_lock(tmp_path) as another:
            assert not another
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(10)
        assert not entered.is_set()
    thread.join(10)
    assert entered.is_set()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from nightshift.stack.processes import start_lock
with start_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
    holder = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    with start_lock(tmp_path) as alone:
        assert not alone

    holder.kill()
    holder.wait(10)

    with start_lock(tmp_path) as alone:
        assert alone
