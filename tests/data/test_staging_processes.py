"""Staging in other processes: what goes wrong there is said here."""

import pytest

from nightshift.data import staging_processes
from nightshift.data.json_rows import Texts
from nightshift.data.processors import processors
from nightshift.data.sources import raw_files
from nightshift.data.staging import Staging
from nightshift.data.staging_processes import StagingProcesses
from nightshift.errors import BadEnvironment, JobError
from nightshift.settings.intake import Ingest


@pytest.mark.slow
def test_a_process_that_fails_or_is_killed_ends_the_work_with_a_reason(
    source_of, measures, night, tmp_path, monkeypatch
):
    monkeypatch.setattr(staging_processes, "PIECES_ALONE", 0)
    monkeypatch.setattr(staging_processes, "processors", lambda: 2)
    (file,) = raw_files(source_of("rows.jsonl", '{"text": "hello"}'), night, tmp_path / "copies")
    staging = Staging(Ingest(), night, measures, "examples")
    good = [(file, Texts([(number, b'{"text": "hello"}')])) for number in range(7)]
    with (
        StagingProcesses(staging) as processes,
        pytest.raises(JobError, match="a row could not be staged: AttributeError"),
    ):
        list(processes.stage([*good[:3], (file, Texts([(1, None)]))]))
    with StagingProcesses(staging) as processes:
        staged = processes.stage(good)
        assert next(staged)[1].rows["prompt"].to_pylist() == ["hello"]
        for process in processes._started:
            process.kill()
        with pytest.raises(BadEnvironment, match="was killed, perhaps for memory"):
            list(staged)


@pytest.mark.parametrize(("given", "quota", "count"), [("", "max 100000", 6), ("3", "max 100000", 3), ("", "250000 100000", 2),
                                                       ("9", "50000 100000", 1), ("", None, 6)])  # fmt: skip
def test_a_job_has_the_processors_of_its_profile_its_container_and_its_process(
    given, quota, count, tmp_path, monkeypatch
):
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: set(range(6)))
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.setattr("nightshift.data.processors.CPU_MAX", tmp_path / "cpu.max")
    if quota:
        (tmp_path / "cpu.max").write_text(quota)
    assert processors() == count
