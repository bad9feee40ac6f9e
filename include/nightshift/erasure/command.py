"""Erases the rows of one subject, one id or one text from applications' storage: find, plan, rewrite, record."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from upath import UPath

from nightshift.data.normalise import stored_id
from nightshift.data.quarantine import Unusable
from nightshift.erasure.applying import apply
from nightshift.erasure.finding import Finding, below
from nightshift.erasure.plan import Plan
from nightshift.erasure.target import ErasureTarget
from nightshift.errors import BadEnvironment, BadInput
from nightshift.jobs.ingest import ID_KEY_CHARACTERS, ID_KEY_VARIABLE
from nightshift.ledger.records import Erased, Erasure
from nightshift.ledger.store import Ledger
from nightshift.registry.models import all_versions
from nightshift.registry.tracking import replace_artifacts
from nightshift.storage.application_version import VERSIONS, weights_below
from nightshift.storage.erasures import KEYS, hash_of, is_ended, newest_erasure
from nightshift.storage.files import create, read_bytes, replace
from nightshift.storage.partition import partition_of

DIGEST_CHARACTERS = 64


@dataclass(frozen=True)
class Request:
    """The request of a person: exactly one of `subject`, `row_id` and `digest`."""

    subject: str | None = None
    row_id: str | None = None
    digest: str | None = None

    def target(self, application: str) -> tuple[ErasureTarget, dict[str, str]]:
        """Return the target that matches rows in partitions, and its hash for the ledger.

        :raises BadInput: it identifies no rows, or the key is missing with which subjects are hashed.
        """
        id_key = os.environ.get(ID_KEY_VARIABLE, "")
        if (self.subject and not id_key) or 0 < len(id_key) < ID_KEY_CHARACTERS:
            raise BadInput(
                f"{ID_KEY_VARIABLE} must be the password of the Airflow connection nightshift_id_key, with which subjects and "
                "ids are hashed"
            )
        key, typed = id_key.encode() or application.encode(), self.subject or self.row_id
        try:
            known = {
                "subject": stored_id(self.subject, key, subject=True) if self.subject else None,
                "id": stored_id(self.row_id, key) if self.row_id else None,
                "digest": self.digest,
            }
        except Unusable as error:
            raise BadInput(str(error)) from error
        given = {kind: value for kind, value in known.items() if value}
        if len(given) != 1 or (self.digest and len(self.digest) != DIGEST_CHARACTERS):
            raise BadInput("name one of --subject, --row-id and --digest (the 64 hex digits of the column `digest`)")
        return ErasureTarget(**known, typed=typed), {
            kind: hash_of(kind, value, key, application) for kind, value in given.items()
        }


def found(storage: str, application: str, request: Request) -> list[str]:
    """Return what an erasure would do, as lines for a person, without writing anything."""
    home = partition_of(storage, application)
    target, _ = request.target(application)
    plan = _plan(home, target)
    return list(_lines(application, plan.rows, plan.rewritten_by_kind, plan.deleted_by_kind, _versions(home, plan)))


def erased(storage: str, application: str, request: Request, *, reason: str, by: str) -> list[str]:
    """Erase, and return what was done, as lines for a person. It can be repeated after a kill.

    :raises BadInput: another erasure has not ended, the reason names the erased person, or a partition is damaged.
    :raises BadEnvironment: storage or MLflow cannot be reached.
    """
    home, ledger = partition_of(storage, application), Ledger(storage, application)
    target, hashes = request.target(application)
    if target.typed and target.typed.casefold() in reason.casefold():
        raise BadInput("--reason is kept, so it must not name the erased person; name your ticket")
    number = _begun(ledger, Erasure(number=0, hashes=hashes, reason=reason, by=by, created=datetime.now(UTC)))
    written = home / "ledger" / f"erasure-{number:06d}.json"
    content = read_bytes(written)
    if content is None:
        create(written, _plan(home, target).model_dump_json().encode())
        content = read_bytes(written)
    if content is None:
        raise BadEnvironment(f"{written} is gone: this erasure has just ended elsewhere; run the command again")
    plan = Plan.model_validate_json(content)
    versions = _versions(home, plan)

    def replaced(path: str, files: list[Path]) -> None:
        if place := _run_of(path):
            replace_artifacts(application, place[0], files, place[1])

    apply(home, plan, number, replaced)
    known = set(json.loads(read_bytes(home / "ledger" / KEYS) or b"[]")) | set(hashes.values())
    replace(home / "ledger" / KEYS, json.dumps(sorted(known), indent=0).encode())
    ledger.create(
        Erased(
            number=number, rows=plan.rows, rewritten=plan.rewritten_by_kind, deleted=plan.deleted_by_kind, versions=versions,
            by=by, ended=datetime.now(UTC),
        )
    )  # fmt: skip
    if written.exists():  # the plan names rows by number, which change when they are removed
        written.unlink()
    return list(_lines(application, plan.rows, plan.rewritten_by_kind, plan.deleted_by_kind, versions))


def _begun(ledger: Ledger, erasure: Erasure) -> int:
    """Record an erasure and return its number; an equal one that is the newest and has not ended is continued."""
    while True:
        number = newest_erasure(ledger.home)
        newest = ledger.erasure(number) if number else None
        if newest and not is_ended(ledger.home, number):
            if newest.hashes == erasure.hashes:
                return number
            raise BadInput(
                f"erasure {number} of {newest.created:%Y-%m-%d} by {newest.by} ({newest.reason}) has not ended: run its "
                "command again first"
            )
        if ledger.create(erasure.model_copy(update={"number": number + 1})):
            return number + 1


def _plan(home: UPath, target: ErasureTarget) -> Plan:
    """The plan of an erasure. A registered version whose prompt shows a row is kept; trial versions of a search are deleted."""
    plan = Finding(home, target).find()
    known = {UPath(version.model).name for version, _ in all_versions(home.name)} if plan.versions else set()
    plan.deleted += [path for path in plan.versions if path.rpartition("/")[2] not in known]
    plan.versions = [path for path in plan.versions if path not in plan.deleted]
    return plan


def _versions(home: UPath, plan: Plan) -> list[str]:
    """Versions in the registry that were trained on a row, or whose prompt shows one, with their aliases."""
    if not (plan.trained or plan.versions):
        return []
    trained = []
    for version, aliases in all_versions(home.name):
        weights = weights_below(home, version.model, version.digest) if version.model else None
        of = {below(parent.uri) for parent in weights.parents} if weights else set()
        if of & plan.trained or f"{VERSIONS}/{UPath(version.model).name}" in plan.versions:
            trained.append(f"{version.version} ({', '.join(aliases)})" if aliases else version.version)
    return trained


def _run_of(path: str) -> tuple[str, str | None] | None:
    """The key of the MLflow run with copies of a partition's files, and their folder in it."""
    match path.split("/"):
        case ["evaluations", name]:
            return f"evaluate-{name}", None
        case ["shadows", name]:
            return f"shadow-{name}", None
        case ["drift" | "bias" as monitor, interval, name]:
            return f"{monitor}-{interval}-{name}", None
        case ["data_docs", _, address, _]:
            return f"validate-{address}", "data_docs"
    return None


def _lines(
    application: str, rows: int, rewritten: dict[str, int], deleted: dict[str, int], versions: list[str]
) -> Iterator[str]:
    yield f"{application}: {rows:,} rows of examples and traffic"
    yield from (f"  {kind}: {count:,} rewritten" for kind, count in rewritten.items())
    yield from (f"  {kind}: {count:,} deleted" for kind, count in deleted.items())
    if versions:
        shown = ", ".join(versions)
        yield f"  trained on them, or with one in its prompt, and not changed: version {shown}. Retrain or release another"
