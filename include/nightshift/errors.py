"""What can go wrong in a job, and the exit code that tells it to whoever started the job."""

from __future__ import annotations

import errno
from enum import IntEnum

# What a disk says that is full, read-only, over its quota, or not this user's.
DISK_REFUSES = frozenset({errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EIO})
# What a network, a share or an object store says that is down or busy.
OUT_OF_REACH = frozenset(
    {
        errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH,
        errno.ETIMEDOUT, errno.ESTALE, errno.EBUSY, getattr(errno, "EREMOTEIO", errno.EIO),
    }
)  # fmt: skip
# The same from clients that have exceptions of their own; named, since whoever asks has imported none of them.
CLIENTS_OUT_OF_REACH = frozenset(
    {
        "socket.gaierror",
        "aiohttp.client_exceptions.ClientConnectionError",
        "azure.core.exceptions.ServiceRequestError",
        "azure.core.exceptions.ServiceResponseError",
        "botocore.exceptions.ConnectionError",
        "botocore.exceptions.HTTPClientError",
        "fsspec.exceptions.FSTimeoutError",
        "google.auth.exceptions.TransportError",
        "httpx.TransportError",
        "requests.exceptions.ConnectionError",
        "requests.exceptions.Timeout",
    }
)


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


def is_outage(error: BaseException) -> bool:
    """Return whether an error says that storage or a server cannot be used now, and nothing about the job itself."""
    if isinstance(error, BadEnvironment):
        return True
    if isinstance(error, OSError) and error.errno in DISK_REFUSES | OUT_OF_REACH:
        return True
    return any(f"{kind.__module__}.{kind.__qualname__}" in CLIENTS_OUT_OF_REACH for kind in type(error).__mro__)


def meaning(code: int) -> str:
    """Return what an exit code of a job says, for a person."""
    return {
        ExitCode.BAD_INPUT: "bad input (a retry cannot help)",
        ExitCode.BAD_ENVIRONMENT: "something it needs is missing or down",
        ExitCode.PREEMPTED: "it was asked to stop",
    }.get(code, "it failed")  # type: ignore[call-overload]
