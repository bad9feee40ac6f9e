"""Checkpoints leave a training in the background: it goes on while each node hashes and uploads what its processes wrote.

All processes agree on what is stored at the end of a step, in collectives that wait for nobody's upload. So an upload may
take longer than a collective is allowed to, and a checkpoint is published at the first end of a step after all nodes have
uploaded theirs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from nightshift.errors import BadEnvironment
from nightshift.storage.manifest import DataFile
from nightshift.storage.partition import attempt_name
from nightshift.training.checkpoints import Checkpoints

# An upload that takes longer is given up, and the training with it.
UPLOAD_SECONDS = 3600
POLL_SECONDS = 0.2


class Saving:
    """The checkpoints of one training as its processes publish them; at most one is under way.

    Every method is called by all processes, at the same step.

    :param rank: of this process, on all nodes; the first one publishes.
    :param local_rank: of this process on its node; the first one uploads what all of the node wrote.
    :param device: for tensors of collectives.
    """

    def __init__(
        self, checkpoints: Checkpoints, *, rank: int, local_rank: int, world: int, device: torch.device
    ) -> None:
        self._checkpoints = checkpoints
        self._rank, self._local_rank, self._world, self._device = rank, local_rank, world, device
        self._step: int | None = None
        self._began = 0.0
        self._then: Callable[[], None] | None = None
        self._upload: _Background | None = None
        self._publishing: _Background | None = None

    def begin(self, folder: Path, step: int, then: Callable[[], None] | None = None) -> None:
        """Upload what this node wrote into `folder` at `step`; the one before is waited for.

        :param then: what the first process does once the checkpoint is published.
        """
        self.wait()
        attempt = [attempt_name()]
        if self._world > 1:
            dist.broadcast_object_list(attempt)
            # All of a node have written by then.
            dist.barrier()
        self._step, self._then, self._began = step, then, time.monotonic()
        if self._local_rank == 0:
            self._upload = _Background(lambda: self._checkpoints.upload(folder, step, attempt[0]))

    def look(self, stop: bool = False) -> bool:
        """Publish the checkpoint under way if all nodes have uploaded it; return whether any process was asked to stop.

        :raises Exception: what an upload of this node, or the publishing, ended with.
        :raises BadEnvironment: an upload takes longer than an hour.
        """
        if self._publishing and self._publishing.done:
            self._publishing.result()
            self._publishing = None
        uploading = bool(self._upload and not self._upload.done)
        if uploading and time.monotonic() - self._began > UPLOAD_SECONDS:
            raise BadEnvironment(
                f"the checkpoint of step {self._step} was not uploaded in {UPLOAD_SECONDS // 60} minutes"
            )
        stop, uploading = self._any(stop, uploading)
        if self._step is not None and not uploading:
            self._publish(self._step)
            self._step = None
        return stop

    def wait(self) -> None:
        """Return when the checkpoint under way is published, and nothing is left to do."""
        while self._any(False, self._step is not None or self._publishing is not None)[1]:
            self.look()
            time.sleep(POLL_SECONDS)

    def _publish(self, step: int) -> None:
        files: list[DataFile] = self._upload.result() if self._upload else []
        self._upload = None
        uploaded = [files]
        if self._world > 1:
            uploaded = [[] for _ in range(self._world)]
            dist.all_gather_object(uploaded, files)
        if self._rank == 0:
            all_files, then = [file for part in uploaded for file in part], self._then

            def publish() -> None:
                self._checkpoints.publish(all_files, step, self._world)
                if then:
                    then()

            self._publishing = _Background(publish)

    def _any(self, *flags: bool) -> tuple[bool, ...]:
        if self._world == 1:
            return flags
        both = torch.tensor([float(flag) for flag in flags], device=self._device)
        dist.all_reduce(both, op=dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in both.tolist())


class _Background:
    """A function that runs in a thread of its own, and what it returned or raised."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._result: Any = None
        self._error: BaseException | None = None
        # It ends with the process: what is not published does not exist.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Any:
        self._thread.join()
        if self._error:
            raise self._error
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error


def save_only_what_is_trained(engine: Any) -> None:
    """Have a DeepSpeed engine leave frozen weights out of its checkpoints: they are those of the base model.

    DeepSpeed leaves each of them out by one name only, so that a tied one would stay under its other name.
    """

    def without_frozen(module: torch.nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
        for name, parameter in module.named_parameters(remove_duplicate=False):
            if not parameter.requires_grad:
                state.pop(prefix + name, None)

    engine.module.register_state_dict_post_hook(without_frozen)
    engine.save_checkpoint = partial(engine.save_checkpoint, exclude_frozen_parameters=True)
