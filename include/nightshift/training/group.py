"""The nodes of one training as they see each other: who came, who is still there, and why it ended.

The first node keeps a small store at the rendezvous. Every node writes a beat there, so that a machine that is gone is
missed within a minute, whatever the libraries below are waiting for.
"""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from torch.distributed import TCPStore

from nightshift import errors
from nightshift.errors import BadEnvironment, JobError, Preempted
from nightshift.training.layout import Layout

# Pods of one job are scheduled and pull their image at different times.
GATHER_SECONDS = 600
BEAT_SECONDS = 0.5
# Without a beat for so long a node is lost; for less, once the processes of this node lost a connection.
LOST_SECONDS = 60
LOST_SECONDS_AFTER_A_BREAK = 15
STORE_SECONDS = 10
SAY_SECONDS = 10
COUNT_SECONDS = 5
LINGER_SECONDS = 10
AGAIN_SECONDS = 1

log = logging.getLogger(__name__)


class Group:
    """What one node knows of the others. A thread of its own talks to the store; nothing else waits for a network."""

    def __init__(self, layout: Layout, store: TCPStore) -> None:
        self._me, self._nodes, self._leads = layout.node, range(layout.nodes), layout.node == 0
        self._store = store
        self._unsaid: list[tuple[str, str]] = []
        self._awaited: set[str] = set()
        self._said: dict[str, list[str]] = {}
        self._beats: dict[int, tuple[bytes, float]] = {}
        self._silent: dict[str, list[int]] = {}
        self._counted = -math.inf
        self._patience = LOST_SECONDS
        self._trouble: JobError | None = None
        self._last_round = time.monotonic()
        self._parting = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def trouble(self) -> JobError | None:
        """Why this training cannot go on, or None: another node ended with an error, or is gone."""
        if self._trouble is None and time.monotonic() - self._last_round > self._patience:
            return Preempted(f"node 0 has not answered for {self._patience} s; all nodes must start again")
        return self._trouble

    def shorten_patience(self) -> None:
        """A connection between training processes broke: whoever is silent now is soon taken for lost."""
        self._patience = LOST_SECONDS_AFTER_A_BREAK

    def together(self, topic: str, text: str, stopping: threading.Event | None = None) -> list[str]:
        """Say `text` on a topic, and return what each node said on it, in their order, once all of them have.

        :raises JobError: what ended another node.
        :raises Preempted: another node is gone, or `stopping` was set.
        """
        self.say(topic, text)
        while (said := self.said(topic)) is None:
            if stopping and stopping.is_set():
                raise Preempted("stopped before the first step")
            time.sleep(BEAT_SECONDS / 2)
        return said

    def say(self, topic: str, text: str) -> None:
        """Say `text` on a topic."""
        self._awaited.add(topic)
        self._unsaid.append((f"{topic}/{self._me}", text))

    def said(self, topic: str) -> list[str] | None:
        """Return what each node said on a topic, or None while one has not.

        :raises JobError: what ended another node.
        """
        if topic not in self._said and (error := self.trouble()):
            raise error
        return self._said.get(topic)

    def missing(self, topic: str) -> list[int]:
        """Return the nodes that had said nothing on an awaited topic when they were last counted, some seconds ago."""
        return self._silent.get(topic, [])

    def end_with(self, error: BaseException) -> None:
        """Tell the other nodes why this one ends; the first that tells is heard."""
        self._unsaid.append(("ended", _record(self._me, error)))

    def part(self) -> None:
        """Say the last words and leave. The first node stays until the others have heard them, 10 s at most."""
        self._parting.set()
        self._thread.join(LINGER_SECONDS + 2 * BEAT_SECONDS)
        if not self._thread.is_alive():
            del self._store  # which closes it

    def _watch(self) -> None:
        try:
            while not self._parting.wait(BEAT_SECONDS):
                self._round(str(time.monotonic()))
            self._round("left")
            until = time.monotonic() + LINGER_SECONDS
            while self._leads and time.monotonic() < until and not all(map(self._has_left, self._nodes)):
                time.sleep(0.1)
        except RuntimeError as error:
            log.debug("the store at the rendezvous: %s", error)
            self._trouble = self._trouble or Preempted("node 0 is gone; all nodes must start again")

    def _round(self, beat: str) -> None:
        self._store.set(f"beat/{self._me}", beat)
        while self._unsaid:
            self._store.compare_set(self._unsaid[0][0], "", self._unsaid[0][1])
            self._unsaid.pop(0)
        for topic in self._awaited - self._said.keys():
            keys = [f"{topic}/{node}" for node in self._nodes]
            if self._store.check(keys):
                self._said[topic] = [text.decode() for text in self._store.multi_get(keys)]
            elif time.monotonic() - self._counted > COUNT_SECONDS:
                # Not at each round: every node asks for every other one.
                self._silent[topic] = [node for node, key in enumerate(keys) if not self._store.check([key])]
                self._counted = time.monotonic()
        if self._trouble is None:
            self._trouble = self._heard() or self._missed()
        self._last_round = time.monotonic()

    def _heard(self) -> JobError | None:
        if not self._store.check(["ended"]):
            return None
        record = json.loads(self._store.get("ended"))
        kind: type[JobError] = getattr(errors, record["error"])
        return kind(f"node {record['node']} ({record['host']}): {record['text']}")

    def _missed(self) -> JobError | None:
        now = time.monotonic()
        for node in self._nodes:
            if not self._store.check([f"beat/{node}"]):
                continue
            beat = self._store.get(f"beat/{node}")
            if beat == b"left" or self._beats.get(node, (b"", 0.0))[0] != beat:
                self._beats[node] = beat, now
            elif now - self._beats[node][1] > self._patience:
                return Preempted(f"node {node} has not answered for {self._patience} s; all nodes must start again")
        return None

    def _has_left(self, node: int) -> bool:
        key = f"beat/{node}"
        return not self._store.check([key]) or self._store.get(key) == b"left"


@contextmanager
def gathered(layout: Layout, training: str) -> Iterator[Group]:
    """Within this block all nodes are there and watch each other. An error that leaves it ends them all.

    :param training: what is trained, and how; it must be the same on all nodes.
    :raises BadEnvironment: not all nodes came within 10 minutes (`NIGHTSHIFT_GATHER_SECONDS`), or they differ.
    """
    deadline = time.monotonic() + float(os.environ.get("NIGHTSHIFT_GATHER_SECONDS") or GATHER_SECONDS)
    card = {"host": socket.gethostname(), "training": training, "processes": layout.processes, "id": uuid.uuid4().hex}
    group = Group(layout, _met(layout, json.dumps(card), deadline))
    try:
        _wait_for_all_nodes(group, layout, deadline)
        yield group
    except BaseException as error:
        group.end_with(error)
        raise
    finally:
        group.part()


def _met(layout: Layout, card: str, deadline: float) -> TCPStore:
    """Return the store of a group in which this node has a place.

    A node that was started again may still find the group of its former self: it ends that group, and waits for the
    next one.
    """
    host, _, port = layout.rendezvous.rpartition(":")
    if not port.isdigit():
        raise BadEnvironment(f"NIGHTSHIFT_RENDEZVOUS is {layout.rendezvous!r}, which is not host:port")
    told = time.monotonic()
    while True:
        state = "" if layout.node == 0 else _nobody_at(host, int(port))
        if not state:
            try:
                store = TCPStore(
                    host if layout.node else "localhost", int(port), is_master=layout.node == 0,
                    timeout=timedelta(seconds=STORE_SECONDS), wait_for_workers=False,
                )  # fmt: skip
                ended = store.check(["ended"])
                if not ended and store.compare_set(f"here/{layout.node}", "", card) == card.encode():
                    return store
                store.compare_set("ended", "", _record(layout.node, Preempted("it was started again")))
                state = "a group that ends is still there"
            except RuntimeError as error:
                state = str(error).splitlines()[0]
        if time.monotonic() > deadline:
            raise BadEnvironment(
                f"node {layout.node} of {layout.nodes} found no group at {layout.rendezvous}: {state}. Does the pod of "
                "node 0 run, does the headless Service select it and publish addresses that are not ready, and does a "
                "NetworkPolicy let the pods reach each other?"
            )
        if time.monotonic() - told > SAY_SECONDS:
            told = time.monotonic()
            log.info("waiting for node 0 at %s: %s", layout.rendezvous, state)
        time.sleep(AGAIN_SECONDS)


def _nobody_at(host: str, port: int) -> str:
    """Return why nothing answers there, or nothing where something does. Torch's own attempts fill the log."""
    try:
        socket.create_connection((host, port), timeout=3).close()
    except socket.gaierror as error:
        return f"its name does not resolve yet ({error.strerror})"
    except OSError as error:
        return f"nothing listens there yet ({error})"
    return ""


def _wait_for_all_nodes(group: Group, layout: Layout, deadline: float) -> None:
    group.say("ready", "here")
    told = time.monotonic()
    while group.said("ready") is None:
        late = time.monotonic() > deadline
        if late or time.monotonic() - told > SAY_SECONDS:
            told = time.monotonic()
            missing = ", ".join(map(str, group.missing("ready")))
            if late:
                raise BadEnvironment(
                    f"of {layout.nodes} nodes these did not come: {missing}. Are their pods scheduled and running, and "
                    f"may they reach {layout.rendezvous} (NetworkPolicy)?"
                )
            log.info("waiting for nodes: %s", missing)
        time.sleep(BEAT_SECONDS / 2)
    cards: list[dict[str, Any]] = [json.loads(text) for text in group.together("here", "-")]
    log.info("all %d nodes are here: %s", layout.nodes, ", ".join(card["host"] for card in cards))
    for node, card in enumerate(cards):
        for what in ("training", "processes"):
            if card[what] != cards[0][what]:
                raise BadEnvironment(
                    f"node {node} ({card['host']}) has {what} {card[what]}, node 0 ({cards[0]['host']}) has "
                    f"{cards[0][what]}; all nodes need the same image, settings and hardware"
                )


def _record(node: int, error: BaseException) -> str:
    known = isinstance(error, JobError)
    return json.dumps(
        {
            "node": node,
            "host": socket.gethostname(),
            "error": type(error).__name__ if known else "JobError",
            "text": str(error) if known else f"{type(error).__name__}: {error}",
        }
    )
