"""The permissions of an application's roles under Airflow's FAB auth manager, limited to that application."""

from __future__ import annotations

from collections.abc import Iterable

from nightshift.errors import BadInput

# An action on a resource, as FAB names both.
Permission = tuple[str, str]

READ, EDIT, CREATE, MENU = "can_read", "can_edit", "can_create", "menu_access"

ROLES = ("viewer", "operator", "approver")
HOUSEKEEPING = "nightshift_housekeeping"

# The DAGs of every application, by what follows its name in their ids.
DAGS = (
    "acknowledge",
    "batch_inference",
    "finetune",
    "index",
    "ingest",
    "nightly_bias",
    "nightly_drift",
    "reconfigure",
    "release",
    "retraining",
    "rollback",
    "search",
)
# Whose runs ask a person.
ASKING_DAGS = ("release",)

# Resources of all DAGs together. Airflow shows of them only what belongs to a DAG that the user may read.
OF_DAGS = (
    *("DAG Code", "DAG Dependencies", "DAG Runs", "DAG Versions", "DAG Warnings"),
    *("HITL Detail", "Task Instances", "Task Logs", "XComs"),
)
# What a person needs to see Airflow's pages at all; the plugin list holds the addresses of the dashboard's tabs.
PAGES = frozenset(
    {
        *((READ, resource) for resource in ("Website", "Plugins", "My Profile", "My Password")),
        (EDIT, "My Password"),
        *((MENU, resource) for resource in ("DAGs", "HITL Detail")),
    }
)

ROLE_NAME_LENGTH = 64  # characters that FAB keeps


def role_name(application: str, role: str) -> str:
    """Return what FAB calls a role of an application.

    :raises BadInput: FAB cannot keep a name that long.
    """
    name = f"{application}_{role}"
    if len(name) > ROLE_NAME_LENGTH:
        raise BadInput(
            f"the role {name} would have {len(name)} characters, and FAB keeps {ROLE_NAME_LENGTH}: "
            "give the application a shorter name"
        )
    return name


def mark(role: str) -> Permission:
    """Return the permission that tells a role of Nightshift's from one that somebody else named alike."""
    return READ, f"Nightshift:{role}"


def permissions(application: str, role: str) -> frozenset[Permission]:
    """Return what `role`, one of `ROLES`, may do with an application.

    :raises BadInput: the name of the application is too long for FAB.
    """
    seen = {(READ, f"DAG:{application}_{dag}") for dag in DAGS} | {(READ, resource) for resource in OF_DAGS}
    return frozenset({mark(role_name(application, role)), *PAGES, *seen, *_acts(application)[role]})


def housekeeping() -> frozenset[Permission]:
    """Return what the user of the connection `nightshift_airflow` may do: look at every DAG, change nothing."""
    # FAB gives every role the website whenever an API server starts.
    seen = ("DAGs", "DAG Runs", "Task Instances", "Audit Logs", "ImportError", "Website")
    return frozenset({mark(HOUSEKEEPING), *((READ, resource) for resource in seen)})


def wanted_roles(applications: Iterable[str]) -> dict[str, frozenset[Permission]]:
    """Return every role that these applications need, by its name.

    :raises BadInput: the name of an application is too long for FAB.
    """
    roles = {role_name(app, role): permissions(app, role) for app in applications for role in ROLES}
    return {**roles, HOUSEKEEPING: housekeeping()}


def _acts(application: str) -> dict[str, set[Permission]]:
    """What a role does beyond looking. Airflow asks for `can_edit` on the DAG with everything that changes its runs."""
    return {
        "viewer": set(),
        "operator": {
            *((EDIT, f"DAG:{application}_{dag}") for dag in DAGS),
            *((CREATE, f"DAG Run:{application}_{dag}") for dag in DAGS),
            # To clear or mark a task. FAB has no such permission for one DAG alone.
            *((EDIT, "DAG Runs"), (EDIT, "Task Instances")),
        },
        "approver": {
            *((EDIT, f"DAG:{application}_{dag}") for dag in (*ASKING_DAGS, "rollback")),
            *((EDIT, "HITL Detail"), (CREATE, f"DAG Run:{application}_rollback")),
        },
    }
