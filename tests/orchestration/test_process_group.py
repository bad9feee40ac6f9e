"""The process group of a job: lines stream, limits hold, and nothing outlives it."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import psutil
import pytest

from nightshift.orchestration.process_group import ProcessGroup

CHILD_THAT_STAYS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
"""


def start(code: str, *, memory_gb: float = 1.0, cpus: int = 64, environment: dict[str, str] | None = None):
    lines: list[tuple[str, str]] = []
    group = ProcessGroup(
        [sys.executable, "-c", textwrap.dedent(code)],
        environment=environment if environment is not None else {"PATH": os.environ["PATH"]},
        cpus=cpus,
        memory_gb=memory_gb,
        on_line=lambda stream, line: lines.append((stream, line)),
    )
    return group, lines


def wait_for(condition, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_lines_arrive_while_the_command_still_runs():
    group, lines = start("import time; print('first', flush=True); time.sleep(30)")
    wait_for(lambda: lines == [("stdout", "first")])
    assert group._process.poll() is None
    group.stop(grace_seconds=0)


def test_the_exit_code_and_both_streams_are_passed_on():
    group, lines = start("import sys; print('out'); print('err', file=sys.stderr); sys.exit(65)")
    assert group.wait() == 65
    assert sorted(lines) == [("stderr", "err"), ("stdout", "out")]


def test_what_a_command_leaves_running_is_killed_when_it_ends():
    group, lines = start(CHILD_THAT_STAYS)
    assert group.wait() == 0
    wait_for(lambda: not alive(int(lines[0][1])))


def test_stop_ends_the_whole_group_even_when_it_ignores_the_request():
    group, lines = start(
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + CHILD_THAT_STAYS + "time.sleep(60)"
    )
    wait_for(lambda: lines)
    threading.Timer(0.1, group.stop, kwargs={"grace_seconds": 0.5}).start()
    assert group.wait() == -signal.SIGKILL
    wait_for(lambda: not alive(int(lines[0][1])))


def test_a_group_that_uses_more_memory_than_its_profile_allows_is_stopped():
    group, _ = start("import time; block = bytearray(300_000_000); time.sleep(60)", memory_gb=0.15)
    assert group.wait() == -signal.SIGKILL
    assert group.over_limit
    assert group.peak_gb > 0.15


def test_the_command_sees_only_the_environment_it_was_given():
    group, lines = start("import os; print(sorted(os.environ))", environment={"ONLY": "this"})
    assert group.wait() == 0
    assert "'ONLY'" in lines[0][1]
    assert "PATH" not in lines[0][1]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor only")
def test_the_command_gets_no_more_processors_than_its_profile():
    group, lines = start("import os, time; time.sleep(0.3); print(len(os.sched_getaffinity(0)))", cpus=1)
    group.wait()
    assert lines == [("stdout", "1")]


def test_a_line_without_end_is_passed_on_in_pieces():
    group, lines = start("print('x' * 50_000)")
    group.wait()
    assert [len(line) for _, line in lines] == [20_000, 20_000, 10_000]


def test_a_job_ends_when_whoever_started_it_is_killed():
    """A killed worker runs no clean-up; the closed pipe alone must end the job and its children."""
    worker = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(f"""
            import os, sys, time
            from nightshift.orchestration.process_group import ProcessGroup
            code = '''
            import subprocess, sys, time
            from nightshift.jobs.progress import end_with_parent
            end_with_parent()
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            print(os.getpid(), child.pid, flush=True)
            time.sleep(60)
            '''.replace("            ", "")
            group = ProcessGroup([sys.executable, "-c", "import os" + code], environment={dict(os.environ)!r},
                                 cpus=64, memory_gb=1, on_line=lambda stream, line: print(line, flush=True))
            group.wait()
        """)],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    leader, child = map(int, worker.stdout.readline().split())
    assert alive(leader)
    assert alive(child)
    worker.kill()
    wait_for(lambda: not alive(leader) and not alive(child))
