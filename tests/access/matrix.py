"""The table of docs/roles.md, as what tests send and expect."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nightshift.alerts.alert import Alert
from nightshift.settings.people import Kind, Severity

DOC = Path(__file__).parents[2] / "docs" / "roles.md"
ROLES = ("viewer", "operator", "approver", "admin")
WORDS = {"anyone": ("anonymous", *ROLES), "all": ROLES, "nobody": ()}

# What is sent with a request, and the answers that are no refusal where another than 2xx is right too.
BODIES = {
    "POST /api/v2/dags/{app}_retraining/dagRuns": {
        "logical_date": None,
        "conf": {"action": "snooze", "reason": "a test"},
    },
    "POST /api/v2/dags/{app}_rollback/dagRuns": {"logical_date": None, "conf": {"reason": "a test"}},
    "POST /api/v2/dags/{app}_acknowledge/dagRuns": {
        "logical_date": None,
        "conf": {"alert": "drift", "action": "silence", "hours": 8, "reason": "a test"},
    },
    "POST /api/v2/backfills": {
        "dag_id": "{app}_ingest",
        "from_date": "2026-11-02T00:00:00Z",
        "to_date": "2026-11-02T00:00:00Z",
        "max_active_runs": 1,
    },
    "POST /api/v2/dags/{app}_release/dagRuns/seen/clear": {"dry_run": True},
    "POST /api/v2/dags/{app}_release/clearTaskInstances": {
        "dry_run": True,
        "dag_run_id": "seen",
        "task_ids": ["release"],
    },
    "PATCH /api/v2/dags/{app}_release/dagRuns/seen": {"state": "success"},
    "PATCH /api/v2/dags/{app}_release/dagRuns/named-{n}/taskInstances/release": {"new_state": "success"},
    "PATCH /api/v2/dags/{app}_release": {"is_paused": True},
    "PATCH /api/v2/dags/{app}_ingest": {"is_paused": True},
    "POST /api/v2/dags/{app}_release/dagRuns/seen/taskInstances/release/xcomEntries": {"key": "key-{n}", "value": 1},
    "PATCH /api/v2/dags/{app}_release/dagRuns/named-{n}/taskInstances/approve/-1/hitlDetails": {
        "chosen_options": ["Reject"]
    },
    "PATCH /api/v2/dags/{app}_release/dagRuns/anybody-{n}/taskInstances/approve/-1/hitlDetails": {
        "chosen_options": ["Reject"]
    },
    "POST /nightshift/review/{app}": {"interval": "2026-11-05", "key": "k", "thumb": "up"},
    "POST /nightshift/review/{app}/choices": {"pairs": "2026-11-05-0", "key": "k", "better": "same"},
    "POST /api/v2/assets/events": {"asset_id": 1, "extra": {}},
    "POST /api/v2/pools": {"name": "pool-{n}", "slots": 1},
    "POST /api/v2/variables": {"key": "key-{n}", "value": "value"},
    "POST /api/v2/connections": {"connection_id": "connection-{n}", "conn_type": "http"},
    "PATCH /auth/fab/v1/users/viewer": {"roles": [{"name": "banking_assistant_viewer"}]},
}
ALLOWED_TOO = {
    "POST /api/v2/backfills": {409},  # the one of the user before has not ended
    "DELETE /api/v2/dags/{app}_nightly_bias": {404},  # the user before has deleted it
    "GET /nightshift/dags/{app}_release": {303},
    "GET /nightshift/dags/{app}_release/runs/seen": {303},
    "GET /nightshift/nowhere": {404},
    # Neither application has a review in its file.
    "GET /nightshift/review/{app}": {404},
    "POST /nightshift/review/{app}": {404},
    "POST /nightshift/review/{app}/choices": {404},
}
DASHBOARD = "/nightshift/"


@dataclass(frozen=True)
class Row:
    """One request of the table, and who may send it by auth manager."""

    request: str
    allowed: dict[str, tuple[str, ...]]

    @property
    def method(self) -> str:
        return self.request.split(" ")[0]

    @property
    def path(self) -> str:
        return self.request.split(" ")[1]

    @property
    def is_of_the_dashboard(self) -> bool:
        return self.path.startswith(DASHBOARD)

    @property
    def is_about_one_application(self) -> bool:
        return "{app" in self.request + str(BODIES.get(self.request))


def told(application: str) -> Alert:
    """What the mailbox of an application holds."""
    moment = datetime(2026, 11, 5, tzinfo=UTC)
    title = f"drift of {application}"
    return Alert(application=application, kind=Kind.DRIFT, severity=Severity.WARNING, title=title, at=moment)


def rows() -> list[Row]:
    """Return the rows of the table in the document."""
    found = []
    for line in DOC.read_text().splitlines():
        if match := re.fullmatch(
            r"\| [^|]+ \| `((?:GET|POST|PUT|PATCH|DELETE) [^`]+)` \| ([^|]*) \| ([^|]*) ?\|", line
        ):
            request, fab, simple = match.groups()
            allowed = {"fab": _roles(fab), **({"simple": _roles(simple)} if simple.strip() else {})}
            found.append(Row(request, allowed))
    return found


def _roles(cell: str) -> tuple[str, ...]:
    roles = (
        WORDS.get(cell.strip()) or tuple(name.strip() for name in cell.split(",")) if cell.strip() != "nobody" else ()
    )
    assert set(roles) <= {"anonymous", *ROLES}, f"docs/roles.md has no role called {cell!r}"
    return roles
