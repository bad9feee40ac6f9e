"""Pieces of raw rows staged in order: in this process, and where they are many, in one process for each processor."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Self

import pyarrow as pa

from nightshift.data.pieces import Piece
from nightshift.data.processors import processors, rare_collections
from nightshift.data.sources import RawFile
from nightshift.data.staging import Staged, Staging
from nightshift.errors import BadEnvironment, JobError

PIECES_ALONE = 20  # 20,000 rows: about as long as a process takes to start
MOST_PROCESSES = 8  # cutting files into pieces and taking in what comes back keeps one processor busy then


class StagingProcesses:
    """Stages pieces; the processes are started when there is enough to do, and end with the `with` block."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._count = min(processors(), MOST_PROCESSES)
        self._alone = PIECES_ALONE  # that this process still stages itself
        self._pipes: list[Connection] = []
        self._started: list[SpawnProcess] = []

    def stage(self, pieces: Iterable[tuple[RawFile, Piece]]) -> Iterator[tuple[RawFile, Staged]]:
        """Yield what becomes of each piece, in their order.

        :raises BadInput: a file as a whole cannot be used.
        :raises BadEnvironment: a file cannot be read, or a process was killed.
        """
        busy: deque[tuple[RawFile, Connection]] = deque()
        for file, piece in pieces:
            arguments = (piece, file.source.name, file.name, file.source.columns)
            if self._count == 1 or self._alone:
                self._alone = max(0, self._alone - 1)
                yield file, self._staging.stage(*arguments)
            elif len(busy) < self._count:
                busy.append((file, self._pipe(len(busy))))
                _send(busy[-1][1], arguments)
            else:
                # Whoever has the oldest piece gets the next one: answers come in order, and no two wait for each other.
                before, pipe = busy.popleft()
                staged = _received(pipe)
                _send(pipe, arguments)
                busy.append((file, pipe))
                yield before, staged
        for file, pipe in busy:
            yield file, _received(pipe)

    def _pipe(self, number: int) -> Connection:
        if number == len(self._pipes):
            # Not forked: this process has threads of Arrow and of the tokenizer, whose locks a fork would copy.
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=_stage, args=(self._staging, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._started.append(process)
        return self._pipes[number]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._started:
            process.terminate()
            process.join()


def _stage(staging: Staging, pipe: Connection) -> None:
    """What a process does: until the other end of its pipe is closed, whoever held it having ended or died."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pa.set_cpu_count(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with rare_collections(), suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            arguments = pipe.recv()
            try:
                answer: Any = staging.stage(*arguments)
            except JobError as error:
                answer = error
            except Exception as error:
                answer = JobError(f"a row could not be staged: {type(error).__name__}: {error}")
            pipe.send(answer)


def _send(pipe: Connection, arguments: tuple[Any, ...]) -> None:
    try:
        pipe.send(arguments)
    except OSError:
        raise _killed() from None


def _received(pipe: Connection) -> Staged:
    try:
        answer: Staged | JobError = pipe.recv()
    except (EOFError, OSError):
        raise _killed() from None
    if isinstance(answer, JobError):
        raise answer
    return answer


def _killed() -> BadEnvironment:
    return BadEnvironment(
        "a process that staged rows was killed, perhaps for memory: give the compute profile more memory_gb, or fewer cpus"
    )
