"""What `nightshift audit` says about the log, and what it prints of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from nightshift.audit.anchor import Anchor, AnchorFiles
from nightshift.audit.chain import Chain
from nightshift.audit.entry import line_of
from nightshift.audit.verify import Verified, verify
from nightshift.errors import BadEnvironment, BadInput, ExitCode
from nightshift.stack.place import Place, this_place
from nightshift.storage.files import default_storage

if TYPE_CHECKING:
    from nightshift.audit.anchor_runs import AnchorRuns

MOST_TOLD = 50  # problems; a log that was rewritten has as many as entries


def checked(storage: str | None, mlflow: str | None, elsewhere: str | None) -> tuple[list[str], ExitCode]:
    """Verify the log against its anchors, and return what is to be said.

    :param elsewhere: URI of the place that the Airflow variable `nightshift_audit_anchor` names.
    :raises BadInput: nothing says where the anchors are.
    """
    stack = _local_stack()
    tracking = (
        mlflow or os.environ.get("MLFLOW_TRACKING_URI") or (stack.mlflow_url if stack and not elsewhere else None)
    )
    if not (tracking or elsewhere):
        raise BadInput("without its anchors a log that was cut off looks whole: name --mlflow, --anchor or both")
    chain = Chain(storage or _storage(stack))
    read, troubles, down = _anchors(tracking, elsewhere)
    found = verify(chain, [anchor for anchors in read.values() for anchor in anchors])
    problems = [*found.problems, *troubles]
    lines = [*_about(chain, found), *down, *(f"WRONG {problem}" for problem in problems[:MOST_TOLD])]
    if more := len(problems[MOST_TOLD:]):
        lines.append(f"WRONG and {more} more")
    if problems:
        return lines, ExitCode.FAILED
    identity = chain.id()
    silent = [
        _silent(place, anchors, chain.storage)
        for place, anchors in read.items()
        if all(anchor.chain != identity for anchor in anchors)
    ]
    if down or silent:
        return [
            *lines,
            *silent,
            "what is there holds together; whether it is all is not known",
        ], ExitCode.BAD_ENVIRONMENT
    return [*lines, "nothing is wrong"], ExitCode.OK


def exported(storage: str | None, since: str | None, until: str | None, application: str | None) -> Iterator[str]:
    """Yield the lines of the log that are asked for, as they are in storage.

    :raises BadInput: a time is no time, or the log is damaged.
    """
    first, last = _moment(since, "--since"), _moment(until, "--until")
    for entry in Chain(storage or _storage(_local_stack())).entries():
        at = datetime.fromisoformat(entry["at"])
        if (first and at < first) or (last and at >= last) or (application and entry["application"] != application):
            continue
        yield line_of(entry)


def _silent(place: str, anchors: list[Anchor], storage: str) -> str:
    """What a place says that holds no anchor of the log: a log that was removed looks like this, and so does a wrong address."""
    others = sorted({anchor.storage for anchor in anchors})
    told = f"no anchor in {place} is of a log in {storage}"
    return f"{told}; those there are of {', '.join(others[:MOST_TOLD])}" if others else f"{told}; it holds none"


def _anchors(tracking: str | None, elsewhere: str | None) -> tuple[dict[str, list[Anchor]], list[str], list[str]]:
    """All anchors by their place, what is wrong with some, and which place cannot be read."""
    read: dict[str, list[Anchor]] = {}
    troubles: list[str] = []
    down: list[str] = []
    places: list[AnchorRuns | AnchorFiles] = [AnchorFiles(elsewhere)] if elsewhere else []
    if tracking:
        os.environ["MLFLOW_TRACKING_URI"] = tracking
        from nightshift.audit.anchor_runs import AnchorRuns

        places.append(AnchorRuns())
    for place in places:
        try:
            found, wrong = place.every()
        except Exception as error:  # MLflow and each object store have errors of their own
            first_line, _, _ = str(error).partition("\n")
            down.append(f"the anchors in {place.name} cannot be read: {first_line}")
            continue
        read[place.name] = found
        troubles += wrong
    return read, troubles, down


def _about(chain: Chain, found: Verified) -> list[str]:
    lines = [f"{chain.storage}/audit: {found.count:,} entries in {found.files:,} files, the head is {found.head[:16]}"]
    if found.matched:
        lines.append(f"anchors that agree with it: {found.matched:,}, the newest is that of entry {found.anchored:,}")
        if after := max(0, found.count - found.anchored):
            lines.append(f"entries after it: {after:,}; they hold together, but nothing says that they are all")
    elif found.count:
        lines.append("no anchor agrees with it")
    return lines


def _moment(text: str | None, option: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(
            f"{option} {text}: not a time; write 2026-11-28 or 2026-11-28T14:00:00+01:00 (UTC without an offset)"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _local_stack() -> Place | None:
    """The stack of this checkout, where there is one."""
    try:
        place = this_place()
    except BadEnvironment:
        return None
    return place if place.home.is_dir() else None


def _storage(stack: Place | None) -> str:
    return stack.storage if stack else default_storage()
