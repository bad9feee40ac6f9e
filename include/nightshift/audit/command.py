"""The output of `nightshift audit`: the result of a verification, and exported entries."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial

from nightshift.audit.anchor import Anchor, AnchorFiles, Witness
from nightshift.audit.chain import Chain
from nightshift.audit.entry import line_of
from nightshift.audit.memory import MEMORY_VARIABLE, AirflowMemory
from nightshift.audit.signature import public_key_of, read_public_keys, signing_key
from nightshift.audit.verify import Verified, verify
from nightshift.errors import BadEnvironment, BadInput, ExitCode
from nightshift.stack.credentials import AUDIT_KEY, stack_keys
from nightshift.stack.place import Place, storage_here, this_place

VERIFIED, UNWITNESSED, TAMPERED = "verified", "unwitnessed", "tampered"
AIRFLOW_CONNECTION = "AIRFLOW_CONN_NIGHTSHIFT_AIRFLOW"
MOST_TOLD = 50  # problems; a log that was rewritten has as many as entries


def checked(
    storage: str | None, mlflow: str | None, elsewhere: str | None, public_keys: Iterable[str] = ()
) -> tuple[list[str], ExitCode]:
    """Verify the log against its anchors, and return what is to be said; the last line is one of the three words.

    :param elsewhere: URI of the place that the Airflow variable `nightshift_audit_anchor` names.
    :param public_keys: keys, or files of them: only anchors that one of them signed count.
    :raises BadInput: one is neither.
    """
    trusted = frozenset(key for text in public_keys for key in read_public_keys(text))
    stack = _local_stack()
    chain = Chain(storage or storage_here())
    read, troubles, down = _anchors(_witnesses(None if mlflow or elsewhere else stack, mlflow, elsewhere))
    found = verify(chain, [anchor for anchors in read.values() for anchor in anchors], trusted=trusted)
    problems = [*found.problems, *troubles]
    lines = [*_about(chain, found), *down, *(f"WRONG {problem}" for problem in problems[:MOST_TOLD])]
    if more := len(problems[MOST_TOLD:]):
        lines.append(f"WRONG and {more} more")
    if problems:
        return [*lines, TAMPERED], ExitCode.FAILED
    if not (read or down):
        lines.append("no place of anchors was asked: name --mlflow, --anchor or both")
    silent = [_silent(place, read[place], chain) for place in read if place not in found.witnesses]
    if down or silent or not read:
        ending = "what is there holds together; whether it is all is not known"
        return [*lines, *silent, ending, UNWITNESSED], ExitCode.BAD_ENVIRONMENT
    return [*lines, VERIFIED], ExitCode.OK


def own_public_key() -> str:
    """Return the public key of the key in the environment, or of the local stack's.

    :raises BadInput: there is neither, or it is no key.
    """
    stack = _local_stack()
    text = os.environ.get(AUDIT_KEY) or (stack_keys(stack)["audit_key"] if stack else None)
    if not text:
        raise BadInput(f"there is no key: {AUDIT_KEY} is not set, and there is no local stack")
    return public_key_of(signing_key(text))


def exported(storage: str | None, since: str | None, until: str | None, application: str | None) -> Iterator[str]:
    """Yield the lines of the log that are asked for, as they are in storage.

    :raises BadInput: a time is no time, or the log is damaged.
    """
    first, last = _moment(since, "--since"), _moment(until, "--until")
    for entry in Chain(storage or storage_here()).entries():
        at = datetime.fromisoformat(entry["at"])
        if (first and at < first) or (last and at >= last) or (application and entry["application"] != application):
            continue
        yield line_of(entry)


def _silent(place: str, anchors: list[Anchor], chain: Chain) -> str:
    """What a place says that witnesses nothing: a log that was removed looks like this, and so does a wrong address."""
    identity = chain.id()
    if any(anchor.chain == identity for anchor in anchors):
        return f"no anchor in {place} is signed by a key that was given"
    others = sorted({anchor.storage for anchor in anchors})
    told = f"no anchor in {place} is of a log in {chain.storage}"
    return f"{told}; those there are of {', '.join(others[:MOST_TOLD])}" if others else f"{told}; it holds none"


def _witnesses(stack: Place | None, mlflow: str | None, elsewhere: str | None) -> list[Witness]:
    """Every place that is named, in the environment too, and those of the local stack."""
    places: list[Witness] = [AnchorFiles(elsewhere)] if elsewhere else []
    if tracking := mlflow or os.environ.get("MLFLOW_TRACKING_URI") or (stack.mlflow_url if stack else None):
        os.environ["MLFLOW_TRACKING_URI"] = tracking
        from nightshift.audit.anchor_runs import AnchorRuns

        places.append(AnchorRuns())
    if os.environ.get(AIRFLOW_CONNECTION):
        places.append(AirflowMemory(_remembered_elsewhere))
    elif stack:
        places.append(AirflowMemory(partial(_remembered_here, stack)))
    return places


def _remembered_here(stack: Place) -> str | None:
    from nightshift.stack.airflow_api import AirflowApi

    with AirflowApi(stack) as api:
        return api.variable(MEMORY_VARIABLE)


def _remembered_elsewhere() -> str | None:
    from nightshift.orchestration.airflow_rest import airflow_rest

    with airflow_rest() as rest:
        return rest.variable(MEMORY_VARIABLE)


def _anchors(places: Iterable[Witness]) -> tuple[dict[str, list[Anchor]], list[str], list[str]]:
    """All anchors by their place, what is wrong with some, and which place cannot be read."""
    read: dict[str, list[Anchor]] = {}
    troubles: list[str] = []
    down: list[str] = []
    for place in places:
        try:
            found, wrong = place.every()
        except Exception as error:  # Airflow, MLflow and each object store have errors of their own
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
