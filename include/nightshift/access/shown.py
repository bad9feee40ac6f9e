"""The generated roles as text: a table for people, and the mapping for an identity provider's groups."""

from __future__ import annotations

from collections.abc import Iterable

from nightshift.access.permissions import HOUSEKEEPING, ROLES, housekeeping, permissions, role_name
from nightshift.settings.application import Application


def table(applications: Iterable[Application]) -> str:
    """Return which role may do what, and the approvers of each application."""
    by_role = {role: permissions("<application>", role) for role in ROLES} | {HOUSEKEEPING: housekeeping()}
    resources = sorted({resource for pairs in by_role.values() for _, resource in pairs})
    rows = [["", *(f"<application>_{role}" for role in ROLES), HOUSEKEEPING]]
    for resource in resources:
        cells = [", ".join(sorted(a for a, on in pairs if on == resource)) or "-" for pairs in by_role.values()]
        rows.append([resource, *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for app in applications:
        approvers = ", ".join(app.approval.approvers) or "all users whose role may approve"
        lines += [
            "",
            f"{app.name}: {', '.join(role_name(app.name, role) for role in ROLES)}",
            f"  approvers: {approvers}",
        ]
    return "\n".join(lines)


def mapping(applications: Iterable[Application]) -> str:
    """Return the part of FAB's configuration (Python) that gives the groups of an identity provider their roles.

    Group `nightshift-<application>-<role>` has the role `<application>_<role>`, group `nightshift-admin` the role Admin.
    """
    groups = {"nightshift-admin": "Admin"}
    groups |= {f"nightshift-{app.name}-{role}": role_name(app.name, role) for app in applications for role in ROLES}
    lines = [f'    "{group}": ["{role}"],' for group, role in groups.items()]
    return "\n".join(["AUTH_ROLES_MAPPING = {", *lines, "}"])
