"""Whether a partition of examples may be trained on: the verdict of its validation, stored next to its manifest.

The manifest says what a partition holds and never changes for a content; whether that content is good enough is a
later decision, and may be taken again under another policy. So it is a small file of its own, `validation.json`, that
names the content it judged: after a partition was replaced, an old verdict counts for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, ValidationError
from upath import UPath

from nightshift.code_version import code_version
from nightshift.errors import BadInput
from nightshift.storage.arrivals import announce
from nightshift.storage.files import read_bytes, replace
from nightshift.storage.manifest import Manifest
from nightshift.verdict import Verdict

ACCEPTANCE = "validation.json"
ACCEPTED = frozenset({Verdict.PASS, Verdict.WARN})


class Acceptance(BaseModel):
    """The newest verdict on a partition; `digest` is that of the manifest that was judged."""

    model_config = ConfigDict(extra="forbid")

    digest: str
    verdict: Verdict
    reasons: list[str]
    code_version: str
    decided: datetime


def record_acceptance(partition: UPath, digest: str, verdict: Verdict, reasons: Sequence[str]) -> Acceptance:
    """Keep the verdict on the content `digest` of a partition, in place of an earlier one."""
    acceptance = Acceptance(
        digest=digest, verdict=verdict, reasons=list(reasons), code_version=code_version(), decided=datetime.now(UTC)
    )
    content = acceptance.model_dump_json(indent=1).encode()
    announce(partition.parents[1], "/".join([*partition.parts[-2:], ACCEPTANCE]), content)
    replace(partition / ACCEPTANCE, content)
    return acceptance


def read_acceptance(partition: UPath) -> Acceptance | None:
    """Return the newest verdict on a partition, or None where nobody judged it.

    :raises BadInput: the file is there and cannot be read.
    """
    return acceptance_of(partition, read_bytes(partition / ACCEPTANCE))


def acceptance_of(partition: UPath, content: bytes | None) -> Acceptance | None:
    """Return the verdict that the file of a partition holds, or None where there is none.

    :raises BadInput: it holds something else.
    """
    try:
        return None if content is None else Acceptance.model_validate_json(content)
    except ValidationError as error:
        raise BadInput(f"{partition / ACCEPTANCE}: not a verdict of a validation: {error}") from error


def why_not(partition: UPath, manifest: Manifest) -> str | None:
    """Return why what a partition holds now may not be trained on, or None where it may."""
    return refusal(read_acceptance(partition), manifest)


def refusal(acceptance: Acceptance | None, manifest: Manifest) -> str | None:
    """Return why what a manifest lists may not be trained on by a verdict on its partition, or None where it may."""
    if acceptance is None:
        return "it was not validated"
    if acceptance.digest != manifest.digest:
        return "it was written again after its validation"
    if acceptance.verdict not in ACCEPTED:
        return f"its validation said {acceptance.verdict}: {'; '.join(acceptance.reasons) or 'no reason given'}"
    return None
