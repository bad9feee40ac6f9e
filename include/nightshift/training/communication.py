"""The rendezvous of the training processes, and a check that they can communicate before anything is loaded."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from datetime import timedelta

import torch
import torch.distributed as dist

from nightshift.errors import BadEnvironment

# A collective takes at most so long: the slowest is a checkpoint, in which processes wait for a node that uploads.
COLLECTIVE_SECONDS = 1800
PREFLIGHT_SECONDS = 60
BROKEN = ("gloo", "NCCL", "Connection reset by peer", "Connection closed by peer", "Broken pipe", "TCPStore")


def connect() -> None:
    """Join the processes that torchrun started on all nodes into one process group. One process needs none of it.

    :raises BadEnvironment: they could not add up a number within a minute.
    """
    world = int(os.environ["WORLD_SIZE"])
    if world == 1 or dist.is_initialized():
        return
    rank, gpu = int(os.environ["RANK"]), torch.cuda.is_available()
    backend = "nccl" if gpu else "gloo"
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store = dist.PrefixStore("preflight", _store())
    store.set(f"came/{rank}", f"{rank} ({socket.gethostname()})")
    try:
        # A group of its own, whose patience ends after a minute, and which meets before the lasting one: what waits
        # for ever is most often the first connection.
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=world, timeout=timedelta(seconds=PREFLIGHT_SECONDS)
        )
        _add_up(world, gpu)
    except RuntimeError as error:
        raise BadEnvironment(_who_answered(store, world, error)) from error
    dist.destroy_process_group()
    dist.init_process_group(backend, timeout=timedelta(seconds=COLLECTIVE_SECONDS))


def is_broken_connection(error: BaseException) -> bool:
    """Whether an error only says that another process is gone."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in BROKEN)
    )


def _store() -> dist.TCPStore:
    return dist.TCPStore(
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False,
        timeout=timedelta(seconds=PREFLIGHT_SECONDS), wait_for_workers=False,
    )  # fmt: skip


def _add_up(world: int, gpu: bool) -> None:
    number = torch.ones(1, device="cuda" if gpu else "cpu")
    work = dist.all_reduce(number, async_op=True)
    if gpu:
        # Waiting for NCCL only orders streams; the answer is there when the device has it.
        until = time.monotonic() + PREFLIGHT_SECONDS
        while not work.is_completed() and time.monotonic() < until:
            time.sleep(0.01)
        if not work.is_completed():
            raise RuntimeError(f"no answer in {PREFLIGHT_SECONDS} s")
    else:
        work.wait()
    if int(number.item()) != world:
        raise RuntimeError(f"the sum of {world} ones is {number.item()}")


def _who_answered(store: dist.Store, world: int, error: RuntimeError) -> str:
    came: list[str] = []
    missing: list[str] = []
    for rank in range(world):
        with suppress(RuntimeError):
            known = store.check([f"came/{rank}"])
            (came if known else missing).append(store.get(f"came/{rank}").decode() if known else str(rank))
    return (
        f"the {world} training processes cannot talk to each other: process {os.environ['RANK']} on "
        f"{socket.gethostname()} got: {str(error).splitlines()[0]}. Started: {', '.join(came) or 'unknown'}; missing: "
        f"{', '.join(missing) or 'none'}. Look at: a NetworkPolicy that blocks the pods' ports (any port, both ways), "
        "the pods' shared memory (/dev/shm, too small: mount an emptyDir of medium Memory), NCCL_SOCKET_IFNAME or "
        "GLOO_SOCKET_IFNAME (the wrong network interface)"
    )
