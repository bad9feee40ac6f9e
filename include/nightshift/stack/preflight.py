"""Checks before the stack starts: ports, disk, folders. Every message says what to do."""

from __future__ import annotations

import errno
import shutil
import socket
import uuid
from pathlib import Path

import psutil
from upath import UPath

from nightshift.errors import BadEnvironment
from nightshift.stack.place import LOOPBACK, Place

FREE_GB = 3.0  # base model, sample data, checkpoints and models of a few runs


def check_port(port: int, variable: str, what: str, host: str = LOOPBACK) -> None:
    """Check that nothing listens on a port of this machine.

    :raises BadEnvironment: naming the process that does, where this user may see it, and the variable to set.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise BadEnvironment(f"{host}, where {what} should listen, is no address of this machine") from None
            raise BadEnvironment(
                f"port {port}, where {what} should listen, is in use by {_listener(port)}. "
                f"Stop that, or choose another port: {variable}={_free_port()} make up"
            ) from None


def check_disk(folder: Path, free_gb: float = FREE_GB) -> None:
    """Check that the disk of `folder` has `free_gb` GB left.

    :raises BadEnvironment: it has not.
    """
    free = shutil.disk_usage(folder).free / 1e9
    if free < free_gb:
        raise BadEnvironment(
            f"{free:.1f} GB are free on the disk of {folder}, {free_gb:g} GB are needed for data and models. "
            "Free some space, or put the stack elsewhere: NIGHTSHIFT_HOME=/a/larger/disk"
        )


def make_folders(place: Place) -> None:
    """Make the folders of the stack.

    :raises BadEnvironment: they cannot be written.
    """
    own = not place.home.exists()
    try:
        for folder in (place.home, place.airflow_home, place.logs, place.processes):
            folder.mkdir(parents=True, exist_ok=True)
        if own:  # who gives a folder that is there has given it its mode; files with secrets have their own
            place.home.chmod(0o700)
    except OSError as error:
        raise BadEnvironment(
            f"{error.filename or place.home} cannot be made ({error.strerror}). "
            "Put the stack elsewhere: NIGHTSHIFT_HOME=/a/folder/of/yours"
        ) from error


def check_storage(storage: str) -> None:
    """Check that a file can be written to the storage and removed again.

    :raises BadEnvironment: it cannot.
    """
    try:
        root = UPath(storage)
        root.mkdir(parents=True, exist_ok=True)
        probe = root / f".writable-{uuid.uuid4().hex}"
        probe.write_bytes(b"")
        probe.unlink()
    except Exception as error:
        raise BadEnvironment(
            f"the storage {storage} cannot be written ({type(error).__name__}: {error}). "
            "Is NIGHTSHIFT_STORAGE right, and are its credentials set?"
        ) from error


def _listener(port: int) -> str:
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return "another process"
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            try:
                process = psutil.Process(connection.pid)
                return f"process {process.pid} ({' '.join(process.cmdline())[:80] or process.name()})"
            except psutil.Error:
                break
    return "another process"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
