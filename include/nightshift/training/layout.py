"""The layout of a training: nodes, processes per node, and rows per process and step."""

from __future__ import annotations

import torch
from pydantic import Field

from nightshift.errors import BadInput
from nightshift.settings.fields import Model
from nightshift.settings.training import Training, TrainingSettings


class Layout(Model):
    """The processes of one training, and which of its nodes this is.

    :param nodes: machines that train together; they share no disk.
    :param node: this one, from 0; the first one leads.
    :param rendezvous: `host:port` at which the first node is found; empty for one node.
    :param processes: training processes on each node.
    """

    nodes: int = Field(1, ge=1)
    node: int = Field(0, ge=0)
    rendezvous: str = ""
    processes: int = Field(1, ge=1)

    @property
    def world(self) -> int:
        """Training processes on all nodes."""
        return self.nodes * self.processes


def processes_here(training: TrainingSettings) -> int:
    """Return how many processes train on this node: what the settings say, or one per GPU, or one without.

    :raises BadInput: more than there are GPUs.
    """
    gpus = torch.cuda.device_count()
    if training.processes and gpus and training.processes > gpus:
        raise BadInput(f"training.processes is {training.processes}, but this node has {gpus} GPUs; leave it empty")
    return training.processes or gpus or 1


def rows_at_once(training: Training, world: int) -> int:
    """Return the rows of one forward pass of one of `world` processes: the most that divide its share of a step.

    What a step learns from, and so the model that comes out, is the same for every number of processes.

    :raises BadInput: a step cannot be shared out evenly.
    """
    check_shares(training, world)
    share = training.rows_per_step // world
    return max(rows for rows in range(1, min(share, training.rows_per_batch) + 1) if share % rows == 0)


def check_shares(training: TrainingSettings, world: int) -> None:
    """Check that a step, where its rows are given, can be shared out evenly.

    :raises BadInput: it cannot.
    """
    rows = training.rows_per_step
    if rows and rows % world:
        raise BadInput(
            f"training.rows_per_step ({rows}) must be a multiple of the {world} processes that train "
            f"on all nodes together; set it to {world * max(1, round(rows / world))}"
        )
