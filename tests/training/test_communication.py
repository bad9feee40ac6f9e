"""Before anything is loaded, the training processes must be able to talk; who cannot is named within a minute."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow
PROGRAM = """
import time
from nightshift.errors import BadEnvironment
from nightshift.training import communication
communication.PREFLIGHT_SECONDS = 10
began = time.monotonic()
try:
    communication.connect()
except BadEnvironment as error:
    print(error)
print(time.monotonic() - began)
"""


@pytest.fixture
def connect():
    """A function that lets some of two processes connect, and returns what each printed."""
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def run(*ranks):
        processes = []
        for rank in ranks:
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                     "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}  # fmt: skip
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", PROGRAM], env={**os.environ, **place}, stdout=subprocess.PIPE, text=True
                )
            )
        return [process.communicate(timeout=60)[0].splitlines() for process in processes]

    return run


def test_processes_that_can_talk_lose_no_time(connect):
    for (seconds,) in connect(0, 1):
        # Longer than the check itself: one of them may start later than the other.
        assert float(seconds) < 20


def test_a_process_that_does_not_come_is_named_with_what_to_look_at(connect):
    ((text, seconds),) = connect(0)
    assert "the 2 training processes cannot talk to each other: process 0" in text
    assert "Started: 0 (" in text
    assert "missing: 1." in text
    assert "NetworkPolicy" in text
    assert "NCCL_SOCKET_IFNAME" in text
    assert 9 < float(seconds) < 60
