"""What judges and embedders took: an account for each time that one was asked, as no manifest tells of what a killed job paid.

<storage>/<app>/judge_accounts/<day>/<name>.json, and embedder_accounts
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ValidationError
from upath import UPath

from nightshift.storage.files import create, names_in, read_bytes

Asked = Literal["judge", "embedder"]
FOLDERS: dict[Asked, str] = {"judge": "judge_accounts", "embedder": "embedder_accounts"}


class EndpointAccount(BaseModel):
    """What some answers took, in the currency of their price, and when they were asked for."""

    cost: float
    asked: AwareDatetime


def keep_endpoint_account(home: UPath, who: Asked, cost: float) -> None:
    """Keep an account.

    :param home: the application's folder.
    """
    account = EndpointAccount(cost=cost, asked=datetime.now(UTC))
    folder = home / FOLDERS[who] / account.asked.date().isoformat()
    create(folder / f"{uuid.uuid4().hex}.json", account.model_dump_json().encode())


def endpoint_accounts(home: UPath, day: date) -> Iterator[UPath]:
    """Return the accounts of one day (UTC)."""
    folders = [home / name / day.isoformat() for name in FOLDERS.values()]
    return (folder / name for folder in folders for name in names_in(folder) if name.endswith(".json"))


def read_endpoint_account(path: UPath) -> EndpointAccount | None:
    """Return an account; None where the file is none."""
    try:
        return EndpointAccount.model_validate_json(read_bytes(path) or b"")
    except ValidationError:
        return None
