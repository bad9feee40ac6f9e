"""The changes that bring FAB's roles to the state in the application files."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from nightshift.access.permissions import READ, Permission, mark
from nightshift.errors import BadInput

Roles = Mapping[str, Set[Permission]]

# FAB gives every role the website whenever an API server starts, one without any other permission too.
BY_FAB = {(READ, "Website")}


@dataclass(frozen=True)
class Change:
    """What one role gets and loses."""

    role: str
    is_new: bool
    added: frozenset[Permission]
    removed: frozenset[Permission]
    reason: str = ""

    def lines(self) -> list[str]:
        """Tell it, one permission a line; of a new role only how many it has."""
        if self.is_new:
            return [f"{self.role}: made, with {len(self.added)} permissions"]
        told = [f"{self.role}: + {action} on {resource}" for action, resource in sorted(self.added)]
        told += [f"{self.role}: - {action} on {resource}" for action, resource in sorted(self.removed)]
        return [f"{line} ({self.reason})" if self.reason else line for line in told]


def changes(wanted: Roles, existing: Roles) -> list[Change]:
    """Return what must change in which roles; roles that are not Nightshift's are left alone.

    A role that is Nightshift's and belongs to no application any more loses everything that it may do.

    :raises BadInput: somebody else's role has the name of a wanted one.
    """
    foreign = [
        name for name in sorted(wanted) if (has := existing.get(name, frozenset()) - BY_FAB) and mark(name) not in has
    ]
    if foreign:
        raise BadInput(
            f"FAB has roles with permissions that Nightshift did not make: {', '.join(foreign)}. Rename them, or take "
            "every permission from them, and run this again; nothing was changed"
        )
    found = []
    for name in sorted(wanted):
        has = frozenset(existing.get(name, ()))
        found.append(Change(name, name not in existing, frozenset(wanted[name]) - has, has - wanted[name]))
    for name in sorted(existing):
        if name not in wanted and mark(name) in existing[name]:
            found.append(
                Change(name, False, frozenset(), frozenset(existing[name]), "this application no longer exists")
            )
    return [change for change in found if change.is_new or change.added or change.removed]
