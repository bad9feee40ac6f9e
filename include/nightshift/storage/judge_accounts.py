"""What judges took: an account for each time that one was asked, as no manifest tells of what a killed job paid.

<storage>/<app>/judge_accounts/<day>/<name>.json
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime

from pydantic import AwareDatetime, BaseModel, ValidationError
from upath import UPath

from nightshift.storage.files import create, names_in, read_bytes


class JudgeAccount(BaseModel):
    """What the answers of a judge took, in the currency of its price, and when it was asked."""

    cost: float
    asked: AwareDatetime


def keep_judge_account(home: UPath, cost: float) -> None:
    """Keep an account.

    :param home: the application's folder.
    """
    account = JudgeAccount(cost=cost, asked=datetime.now(UTC))
    create(_folder(home, account.asked.date()) / f"{uuid.uuid4().hex}.json", account.model_dump_json().encode())


def judge_accounts(home: UPath, day: date) -> Iterator[UPath]:
    """Return the accounts of one day (UTC)."""
    folder = _folder(home, day)
    return (folder / name for name in names_in(folder) if name.endswith(".json"))


def read_judge_account(path: UPath) -> JudgeAccount | None:
    """Return an account; None where the file is none."""
    try:
        return JudgeAccount.model_validate_json(read_bytes(path) or b"")
    except ValidationError:
        return None


def _folder(home: UPath, day: date) -> UPath:
    return home / "judge_accounts" / day.isoformat()
