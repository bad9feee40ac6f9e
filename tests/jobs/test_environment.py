"""The variables with which jobs that run models start keep a process small."""

import os
import subprocess
import sys

import pytest

from nightshift.jobs.environment import FOR_MODELS

MANY_SHAPES = """
import psutil, torch
layer, process = torch.nn.Linear(256, 256, dtype=torch.bfloat16), psutil.Process()
sizes = []
for rows in range(1, 601):
    layer(torch.zeros(rows, 256, dtype=torch.bfloat16)).sum().backward()
    if rows in (100, 600):
        sizes.append(process.memory_info().rss)
print((sizes[1] - sizes[0]) / 1e6)
"""


@pytest.mark.slow
def test_a_process_does_not_grow_with_the_shapes_of_its_batches():
    def grown_mb(environment):
        command = [sys.executable, "-c", MANY_SHAPES]
        run = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
        return float(run.stdout)

    assert grown_mb({**FOR_MODELS, "OMP_NUM_THREADS": "1"}) < 40
