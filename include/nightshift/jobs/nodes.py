"""Which of the nodes of a job this process is on. A job on one node, wherever it runs, needs none of this."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Nodes:
    """The place of this process among the nodes (pods) that run the same job with the same spec.

    :param count: nodes of the job.
    :param index: this node, from 0; the first one leads: it alone publishes, logs to MLflow and writes the result.
    :param rendezvous: `host:port` at which the first node is found; empty on a single node.
    """

    count: int = 1
    index: int = 0
    rendezvous: str = ""

    @property
    def leads(self) -> bool:
        """Whether this is the first node."""
        return self.index == 0


def nodes() -> Nodes:
    """Return what the environment says; the index is the one that Kubernetes gives the pods of an indexed Job."""
    return Nodes(
        count=int(os.environ.get("NIGHTSHIFT_NODES", "1")),
        index=int(os.environ.get("JOB_COMPLETION_INDEX", "0")),
        rendezvous=os.environ.get("NIGHTSHIFT_RENDEZVOUS", ""),
    )
