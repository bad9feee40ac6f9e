"""The rank of this process among the nodes of a job; a job on one node does not need it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from nightshift.errors import BadEnvironment, BadInput
from nightshift.storage.manifest import Manifest


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


def together(
    share: Callable[[], Manifest | None], published: Callable[[], Manifest | None], drop: Callable[[], None]
) -> Manifest | None:
    """Do this node's share of a partition, and return its manifest; None: it is not published yet, the first node waits.

    :param share: does it; on the first node it joins what all have done and publishes the partition.
    :param published: looks whether it is there: another attempt at the same job may be faster, and node, too.
    :param drop: takes away what the nodes have shared, from which the partition was made.
    """
    manifest = published()
    if manifest is None:
        try:
            manifest = share()
        except (BadInput, BadEnvironment, OSError) as error:
            # Who publishes takes away what was shared, also from under another attempt at the same partition.
            manifest = published()
            if manifest is None:
                if isinstance(error, BadInput):
                    drop()  # no further try will want it
                raise
    # Also by who comes late: it may have left something after the others' was taken away.
    if manifest is not None:
        drop()
    return manifest
