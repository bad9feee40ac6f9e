"""Distributes parts of work over nodes without a shared disk: a part is done when it is published."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from nightshift.errors import BadEnvironment
from nightshift.storage.manifest import Manifest

PATIENCE_SECONDS = 30 * 60  # without a new part; a node may have to wait for a machine and an image first
POLL_SECONDS = 10
MOST_NAMED = 5  # ranges of rows in a message

Rows = tuple[int, int]  # first and last, both included


def await_parts(
    parts: Sequence[Rows],
    known: Mapping[Rows, Manifest],
    find: Callable[[int, int], Manifest | None],
    nodes: int,
    report: Callable[[int, int, str], None],
) -> list[Manifest]:
    """Return the manifests of all parts, in their order, as soon as all are visible.

    A node that died is started again by whoever started it, so this only waits.

    :param parts: of all nodes; each does its own in order, and part number n is of node n modulo `nodes`.
    :param known: parts that need not be looked for.
    :param report: told how many parts of how many are there, and for how many nodes this waits.
    :raises BadEnvironment: no further part became visible for `PATIENCE_SECONDS`.
    """
    there = dict(known)
    # Only the next part of each node is looked for: an interval has thousands, and to ask for all of them costs money.
    owed = [deque(part for part in parts[node::nodes] if part not in there) for node in range(nodes)]
    newest = time.monotonic()
    while True:
        before = len(there)
        for queue in owed:
            while queue and (manifest := find(*queue[0])):
                there[queue.popleft()] = manifest
        waiting = sum(map(bool, owed))
        if not waiting:
            return [there[part] for part in parts]
        if len(there) > before:
            newest = time.monotonic()
        if time.monotonic() - newest >= PATIENCE_SECONDS:
            missing = sorted(part for queue in owed for part in queue)
            raise BadEnvironment(
                f"gave up waiting: {waiting} of {nodes} nodes published nothing new for {PATIENCE_SECONDS / 60:g} "
                f"minutes; {len(missing)} of {len(parts)} parts are missing ({named(missing)}). Look at the logs of the "
                "other nodes; another try goes on from the parts that are there"
            )
        report(len(there), len(parts), f"{waiting} of {nodes} nodes")
        time.sleep(POLL_SECONDS)


def parts_of(rows: int, rows_per_part: int) -> list[Rows]:
    """Return the parts that so many rows are worked on in, in order."""
    return [(first, min(rows, first + rows_per_part) - 1) for first in range(0, rows, rows_per_part)]


def named(parts: Sequence[Rows]) -> str:
    """Return ranges of rows for people, the first few of them: `rows 0-6, 14-20, …`."""
    texts = [f"{first}-{last}" for first, last in parts[:MOST_NAMED]]
    return f"rows {', '.join(texts)}{', …' if len(parts) > MOST_NAMED else ''}"
