"""The approvers in application files, as ids of FAB's users."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nightshift.errors import BadInput
from nightshift.settings.application import Application

# An Airflow variable: JSON, name of an approver -> FAB's id of the user, as text. Approvals are addressed to ids.
USERS_VARIABLE = "nightshift_users"


@dataclass(frozen=True)
class Person:
    """A user of FAB."""

    id: int
    username: str
    email: str


def approver_ids(applications: Iterable[Application], people: Sequence[Person]) -> tuple[dict[str, str], list[str]]:
    """Return the id of every approver by the name that the files give, and the names that fit nobody.

    A name is a user name, or else an e-mail address: some identity providers make user names that no person can read.

    :raises BadInput: several users have the e-mail address.
    """
    names = sorted({name for app in applications for name in app.approval.approvers})
    ids: dict[str, str] = {}
    for name in names:
        found = [person for person in people if person.username == name]
        found = found or [person for person in people if person.email.lower() == name.lower()]
        if len(found) > 1:
            raise BadInput(
                f"the approver {name!r} may be any of {', '.join(person.username for person in found)}: give the user name"
            )
        if found:
            ids[name] = str(found[0].id)
    return ids, [name for name in names if name not in ids]
