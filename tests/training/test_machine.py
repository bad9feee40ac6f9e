"""What a job may use is the least of what its profile, its control group and the machine allow."""

import psutil

from nightshift.training import machine
from nightshift.training.machine import memory_limit, this_machine


def test_the_compute_profile_bounds_the_memory(monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_MEMORY_GB", "0.5")
    assert memory_limit() == 500_000_000
    monkeypatch.setenv("NIGHTSHIFT_MEMORY_GB", "1000000")
    assert memory_limit() <= psutil.virtual_memory().total


def test_a_control_group_bounds_the_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.delenv("NIGHTSHIFT_MEMORY_GB", raising=False)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit() == psutil.virtual_memory().total
    (tmp_path / "memory.max").write_text("300000000\n")
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("300000000\n")
    assert memory_limit() == 300_000_000


def test_a_machine_without_gpus_says_so(tmp_path):
    assert (this_machine(tmp_path).gpu, this_machine(tmp_path).gpu_bytes) == ("", 0)
