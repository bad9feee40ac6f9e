"""What can go wrong in a job, and the exit code that tells it to whoever started the job."""

from __future__ import annotations

import errno
from enum import IntEnum

# What a disk says that is full, read-only, over its quota, or not this user's.
DISK_REFUSES = frozenset({errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EIO})


class ExitCode(IntEnum):
    """Exit codes of every `nightshift` command (the numbers are those of sysexits.h where it has one)."""

    OK = 0
    FAILED = 1
    BAD_INPUT = 65
    BAD_ENVIRONMENT = 69
    PREEMPTED = 75


class JobError(Exception):
    """A failure that a person can act on: its text says what was wrong, where, and what to do."""

    exit_code = ExitCode.FAILED


class BadInput(JobError):
    """The spec or the data is wrong; running the same thing again cannot help."""

    exit_code = ExitCode.BAD_INPUT


class BadEnvironment(JobError):
    """Something around the job is missing or down (disk, network, a server); a retry may help."""

    exit_code = ExitCode.BAD_ENVIRONMENT


class Preempted(JobError):
    """The job was asked to stop and saved what it had; a retry goes on from there."""

    exit_code = ExitCode.PREEMPTED


def meaning(code: int) -> str:
    """Return what an exit code of a job says, for a person."""
    return {
        ExitCode.BAD_INPUT: "bad input (a retry cannot help)",
        ExitCode.BAD_ENVIRONMENT: "something it needs is missing or down",
        ExitCode.PREEMPTED: "it was asked to stop",
    }.get(code, "it failed")  # type: ignore[call-overload]
