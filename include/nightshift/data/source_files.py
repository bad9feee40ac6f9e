"""Finds the files of a source for an interval by their names, without heavy imports, for sensors."""

from __future__ import annotations

import os
from datetime import UTC, tzinfo
from pathlib import Path

from upath import UPath

from nightshift.errors import BadEnvironment, BadInput
from nightshift.settings.intake import Source
from nightshift.settings.interval import Interval
from nightshift.storage.files import is_local


class NoData(Exception):
    """There is nothing (yet) for this interval: not an error, and not a success either."""


def uri_of(source: Source, interval: Interval, zone: tzinfo = UTC) -> str:
    """Return the URI of a source with an interval filled in, its times in a time zone."""
    return source.uri_for(interval.start.astimezone(zone), interval.end.astimezone(zone))


def files_at(source: Source, uri: str) -> tuple[UPath, list[UPath]]:
    """Return what a URI of a source stands for, and the files that it matches in order of their names.

    :raises NoData: there is no such file.
    :raises BadInput: a name leads elsewhere.
    :raises BadEnvironment: the storage cannot be listed.
    """
    target = _target(source, uri)
    return target, _matches(source, uri, target)


def _target(source: Source, uri: str) -> UPath:
    try:
        target = UPath(uri)
    except (ValueError, ImportError) as error:
        raise BadInput(f"source {source.name!r}: {uri} cannot be opened: {error}") from error
    if "::" in uri.rpartition("://")[2] and "://" in uri:
        raise BadInput(f"source {source.name!r}: {uri}: `::` in a URI chains file systems; rename the file or folder")
    return target


def _matches(source: Source, uri: str, target: UPath) -> list[UPath]:
    try:
        if "*" not in uri:
            found = [target] if target.exists() else []
        else:
            paths = target.fs.glob(target.path)
            if is_local(target):
                found = sorted((UPath(path) for path in paths), key=str)
            else:
                if chained := [path for path in paths if "::" in path]:
                    raise BadInput(f"source {source.name!r}: {chained[0]}: `::` chains file systems; rename the file")
                found = sorted(
                    (UPath(target.fs.unstrip_protocol(path), **target.storage_options) for path in paths), key=str
                )
            found = [path for path in found if not path.is_dir()]
            if is_local(target):
                root = Path(os.path.realpath(target.path.split("*")[0].rpartition("/")[0]))
                for path in found:
                    if not Path(os.path.realpath(path.path)).is_relative_to(root):
                        raise BadInput(
                            f"{path.path}: source {source.name!r} matches it, but it is a link out of {root}"
                        )
    except OSError as error:
        raise BadEnvironment(f"source {source.name!r}: {uri} cannot be listed: {error}") from error
    if not found:
        raise NoData(f"source {source.name!r}: there is no file {uri}")
    return found
