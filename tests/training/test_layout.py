"""How a training is spread over processes: the same rows in every step, whatever their number."""

import pytest

from nightshift.errors import BadInput
from nightshift.settings.training import Training
from nightshift.training.layout import Layout, processes_here, rows_at_once


@pytest.mark.parametrize(
    ("step", "most", "world", "rows"),
    [(32, 4, 1, 4), (32, 4, 8, 4), (32, 4, 16, 2), (32, 4, 32, 1), (12, 5, 1, 4), (12, 5, 2, 3), (7, 4, 1, 1)],
)
def test_a_process_takes_the_most_rows_that_divide_its_share_of_a_step(step, most, world, rows):
    assert rows_at_once(Training(rows_per_step=step, rows_per_batch=most), world) == rows


def test_a_step_that_cannot_be_shared_out_is_refused_with_a_number_that_can():
    with pytest.raises(BadInput, match=r"rows_per_step \(12\) must be a multiple of the 8 processes .* set it to 16"):
        rows_at_once(Training(rows_per_step=12), 8)


def test_left_open_there_is_one_process_for_each_gpu_or_one(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert processes_here(Training()) == 1
    assert processes_here(Training(processes=2)) == 2
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert processes_here(Training()) == 4
    assert processes_here(Training(processes=2)) == 2
    with pytest.raises(BadInput, match=r"training\.processes is 8, but this node has 4 GPUs"):
        processes_here(Training(processes=8, rows_per_step=8))


def test_the_world_is_all_processes_of_all_nodes():
    assert Layout(nodes=3, processes=8, node=2, rendezvous="a:1").world == 24
