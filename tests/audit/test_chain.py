"""The log keeps everything once, whoever appends and whenever it is killed."""

import multiprocessing
import signal
from datetime import timedelta

import pytest
from audit_logs import NOW, event, files_of, run_until, written

from nightshift.audit import chain as chain_module
from nightshift.audit.chain import IN_A_FILE, LOOK_BACK, Chain, lines_of
from nightshift.audit.verify import verify
from nightshift.errors import BadInput


@pytest.fixture
def storage(tmp_path):
    return tmp_path.as_uri()


def kept(chain):
    """The events in the log, without what the log says about itself."""
    return [entry["source_id"] for entry in chain.entries() if entry["source"] != "audit"]


def test_what_is_read_twice_is_kept_once_and_nothing_new_leaves_no_trace(storage, tmp_path):
    chain = written(storage, (3,))
    before = files_of(tmp_path)
    assert chain.append("airflow", [event(number) for number in range(3)], NOW + timedelta(minutes=10)) == 0
    assert files_of(tmp_path) == before
    assert chain.append("airflow", [event(2), event(3), event(3)], NOW + timedelta(minutes=20)) == 1
    assert kept(chain) == [f"event {number}" for number in range(4)]


def test_a_event_that_becomes_visible_late_is_kept(storage):
    chain = written(storage, (2,))
    chain.append("airflow", [event(7, at=NOW + timedelta(hours=2))], NOW + timedelta(hours=2))
    since = chain.since("airflow")
    assert since == NOW + timedelta(hours=2) - LOOK_BACK
    chain.append(
        "airflow", [event(1), event(5, at=NOW), event(7, at=NOW + timedelta(hours=2))], NOW + timedelta(hours=3)
    )
    assert kept(chain) == ["event 0", "event 1", "event 7", "event 5"]


def test_an_old_record_that_looks_new_is_known_however_long_the_log_has_grown(storage):
    chain = Chain(storage)
    chain.append("ledger", [event(1, source="ledger")], NOW)
    for day in range(1, 4):
        chain.append(
            "ledger", [event(10 + day, source="ledger", at=NOW + timedelta(days=day))], NOW + timedelta(days=day)
        )
    assert chain.append("ledger", [event(1, source="ledger")], NOW + timedelta(days=4)) == 0


def test_a_source_that_could_not_be_read_is_read_from_where_it_was(storage):
    chain = written(storage, (1,))
    chain.append("ledger", [event(9, source="ledger", at=NOW + timedelta(days=1))], NOW + timedelta(days=1))
    assert chain.since("airflow") == NOW - LOOK_BACK
    assert chain.since("ledger") == NOW + timedelta(days=1) - LOOK_BACK


def test_many_events_are_kept_in_files_of_bounded_size(storage, tmp_path):
    chain = Chain(storage)
    assert chain.append("airflow", (event(number) for number in range(2 * IN_A_FILE + 5)), NOW) == 2 * IN_A_FILE + 5
    sizes = [len(file.read_text().splitlines()) for file in files_of(tmp_path)]
    assert sizes == [IN_A_FILE + 2, IN_A_FILE + 1, 6]
    assert verify(chain, []).problems == []


def test_a_source_that_breaks_off_keeps_what_it_gave_and_is_read_again(storage):
    def broken(numbers):
        yield from map(event, range(numbers))
        raise OSError("the line is dead")

    chain = Chain(storage)
    for numbers in (2, IN_A_FILE + 3):
        with pytest.raises(OSError, match="the line is dead"):
            chain.append("airflow", broken(numbers), NOW)
        assert len(kept(chain)) == numbers
        assert chain.since("airflow") is None
    assert verify(chain, []).problems == []


def test_a_first_collection_reads_each_file_once_however_long_it_is(storage, monkeypatch):
    monkeypatch.setattr(chain_module, "IN_A_FILE", 10)
    reads = []
    monkeypatch.setattr(chain_module, "lines_of", lambda path: reads.append(path) or lines_of(path))
    Chain(storage).append("airflow", map(event, range(200)), NOW)
    ends = len(reads) - len(set(reads))  # the last file is also read for the end of the chain
    assert len(set(reads)) == 19
    assert ends <= 20


def test_a_damaged_end_is_told_and_never_built_upon(storage, tmp_path):
    chain = written(storage, (2,))
    (file,) = files_of(tmp_path)
    file.write_text(file.read_text() + "{}\n")
    with pytest.raises(BadInput, match=r"is damaged, so the audit log cannot go on; `nightshift audit verify`"):
        chain.append("airflow", [event(9)], NOW)
    assert files_of(tmp_path) == [file]


def _append(storage, barrier, numbers):
    chain = Chain(storage)
    barrier.wait()
    for number in numbers:
        chain.append("airflow", [event(number), event(number + 1)], NOW)


def test_of_processes_that_append_at_once_every_event_is_kept_once_in_one_chain(storage):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    processes = [context.Process(target=_append, args=(storage, barrier, range(start, 30, 2))) for start in (0, 1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    chain = Chain(storage)
    assert sorted(kept(chain)) == sorted(f"event {number}" for number in range(31))
    assert verify(chain, []).problems == []


APPENDING = """
import sys
from audit_logs import NOW, event
from nightshift.audit import chain
chain.IN_A_FILE = 20
chain.Chain(sys.argv[1]).append("airflow", (event(number) for number in range(400)), NOW)
"""


@pytest.mark.slow
def test_a_collection_that_is_killed_again_and_again_ends_with_every_event_once(storage, tmp_path):
    for files in (1, 4, 8, 12, 16):
        assert run_until(APPENDING, tmp_path, files) == -signal.SIGKILL
        assert verify(Chain(storage), []).problems == []
        assert len(files_of(tmp_path)) < 20
    assert run_until(APPENDING, tmp_path) == 0
    assert sorted(kept(Chain(storage))) == sorted(f"event {number}" for number in range(400))
    assert verify(Chain(storage), []).problems == []
