"""Keys and passwords of the local stack: generated once, readable by this user alone, never printed."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from nightshift.errors import BadEnvironment
from nightshift.stack.place import Place

# Airflow's simple auth manager knows four roles. `user` does all that belongs to DAGs: starts, clears, marks and deletes their
# runs, deletes DAGs, writes results of tasks, and answers approvals.
USERS = {"viewer": "viewer", "approver": "user", "operator": "op", "admin": "admin", "housekeeping": "viewer"}
HOUSEKEEPING = "housekeeping"  # no person: as it, tasks ask the REST API about other runs
KEY_BYTES = 64
# Signs the anchors of the audit log. Only the scheduler and its tasks have it: jobs get what the allow-list names.
AUDIT_KEY = "NIGHTSHIFT_AUDIT_KEY"
AUDIT_KEY_BYTES = 32


def stack_keys(place: Place) -> dict[str, str]:
    """Return `fernet_key`, `api_secret_key`, `jwt_secret` and `audit_key`, made at the first call."""
    from cryptography.fernet import Fernet

    makers: dict[str, Callable[[], str]] = {
        "fernet_key": lambda: Fernet.generate_key().decode(),
        "api_secret_key": lambda: secrets.token_urlsafe(KEY_BYTES),
        "jwt_secret": lambda: secrets.token_urlsafe(KEY_BYTES),
        "audit_key": lambda: base64.b64encode(secrets.token_bytes(AUDIT_KEY_BYTES)).decode(),
    }
    return _keep(place.home / "keys.json", makers)


def passwords(place: Place) -> dict[str, str]:
    """Return the password of every user, made at the first call. Airflow reads the same file."""
    return _keep(place.passwords, dict.fromkeys(USERS, lambda: secrets.token_urlsafe(12)))


def _keep(path: Path, makers: Mapping[str, Callable[[], str]]) -> dict[str, str]:
    try:
        kept = dict(json.loads(path.read_text())) if path.exists() else {}
    except ValueError:
        raise BadEnvironment(f"{path} is not readable as JSON; delete it and start again (it is made anew)") from None
    missing = {name: make() for name, make in makers.items() if name not in kept}
    if missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({**kept, **missing}, file, indent=1)
        temporary.replace(path)
    return {**kept, **missing}
