"""Converts entries of Airflow's own audit log to events of this project's audit log."""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from nightshift.audit.entry import AuditEvent
from nightshift.audit.untrusted import bounded, text_of, without_secrets

# What Airflow logs about its own work, and what asks without changing anything: not asked for, so that little is read.
NOISE = (
    "running", "success", "failed", "skipped", "up_for_retry", "up_for_reschedule", "upstream_failed", "deferred", "scheduled",
    "queued", "restarting", "removed", "awaiting_input", "get_task_instances_batch", "cli_check", "cli_api_server",
    "cli_scheduler", "cli_triggerer", "cli_dag_processor", "cli_dag_details", "cli_dag_list_dags", "cli_dag_list_dag_runs",
    "cli_dag_list_import_errors", "cli_dag_list_jobs", "cli_dag_next_execution", "cli_dag_report", "cli_dag_state",
    "cli_task_failed_deps", "cli_task_list", "cli_task_render", "cli_task_state", "cli_task_states_for_dag_run",
)  # fmt: skip

# What the names of Airflow's events mean. Others keep their name.
MEANING = {
    "trigger_dag_run": "ran a DAG",
    "patch_dags": "changed DAGs",
    "delete_dag": "deleted a DAG",
    "clear_dag_run": "cleared a run",
    "clear_dag_runs": "cleared runs",
    "delete_dag_run": "deleted a run",
    "bulk_dag_runs": "changed runs",
    "post_clear_task_instances": "cleared tasks",
    "update_hitl_detail": "answered a request",
    "create_backfill": "began a backfill",
    "pause_backfill": "paused a backfill",
    "unpause_backfill": "went on with a backfill",
    "cancel_backfill": "cancelled a backfill",
    "post_variable": "added a variable",
    "patch_variable": "changed a variable",
    "delete_variable": "deleted a variable",
    "bulk_variables": "changed variables",
    "post_connection": "added a connection",
    "patch_connection": "changed a connection",
    "delete_connection": "deleted a connection",
    "bulk_connections": "changed connections",
    "post_pool": "added a pool",
    "patch_pool": "changed a pool",
    "delete_pool": "deleted a pool",
    "bulk_pools": "changed pools",
    "create_asset_event": "created an asset event",
    "materialize_asset": "had an asset made",
    "create_xcom_entry": "added a result",
    "update_xcom_entry": "changed a result",
    "delete_xcom_entry": "deleted a result",
    "generate_token": "took a token",
    "paused": "paused a DAG",
}
STATE = {"patch_dag_run": "a run", "patch_task_instance": "a task", "patch_task_group_instances": "a task group"}

# What an event was done to, by the names that Airflow gives it.
SUBJECTS = {
    "variable_key": "variable", "key": "variable", "connection_id": "connection", "pool_name": "pool", "name": "pool",
    "backfill_id": "backfill", "asset_id": "asset",
}  # fmt: skip
# Of these only the name of the thing is kept: their values are secrets, or may be.
SECRETS = re.compile("variable|connection|users|password")

log = logging.getLogger(__name__)


def airflow_audit_events(
    pages: Callable[..., Iterable[Mapping[str, Any]]], applications: list[str], since: datetime | None
) -> Iterator[AuditEvent]:
    """Yield what people did since then, by Airflow's audit log; None: all that it still holds.

    :param pages: yields every entry of a listing of the REST API (:meth:`AirflowRest.all`).
    """
    bound = {"after": since.isoformat()} if since else {}
    for event in pages("eventLogs", "event_logs", order_by="event_log_id", excluded_events=NOISE, **bound):
        if found := audit_event_of(event, applications):
            yield found


def audit_event_of(event: Mapping[str, Any], applications: Iterable[str]) -> AuditEvent | None:
    """Return what somebody did by an entry of `/api/v2/eventLogs`; None where it is Airflow's own work.

    Requests to the REST API carry their method, also those of the pages; commands have names of their own. An event that this
    code does not know counts as an event, so that a new version of Airflow hides nothing. So does one that cannot be read:
    Airflow logs what users send before it looks at it.
    """
    try:
        return _audit_event(event, applications)
    except Exception as error:  # a body may hold anything, and no event may keep those after it from the log
        log.warning(
            "event %s of Airflow's audit log cannot be read: %s", event.get("event_log_id"), type(error).__name__
        )
        return _unreadable(event, applications, type(error).__name__)


def _audit_event(event: Mapping[str, Any], applications: Iterable[str]) -> AuditEvent | None:
    name = str(event["event"])
    if name in NOISE:
        return None
    extra = _json(event.get("extra"))
    if not ("method" in extra or name.startswith("cli_") or name == "paused"):
        return None
    dag = event.get("dag_id") or ""
    to = {key: event.get(f"{key}_id") for key in ("dag", "run", "task")}
    if event.get("map_index") not in {None, -1}:
        to["map_index"] = event["map_index"]
    to |= {SUBJECTS[key]: value for key, value in extra.items() if key in SUBJECTS and isinstance(value, str | int)}
    return AuditEvent(
        at=event["when"],
        who=text_of(event.get("owner") or "somebody"),
        did=_did(name, extra),
        application=_application_of(dag, applications),
        to={key: text_of(value) for key, value in to.items() if value not in {None, ""}},
        details={"event": name, **_details(name, extra)},
        source="airflow",
        source_id=f"event {event['event_log_id']} of {event['when']}",
    )


def _unreadable(event: Mapping[str, Any], applications: Iterable[str], error: str) -> AuditEvent:
    digest = hashlib.sha256(str(event.get("extra")).encode("utf-8", "surrogatepass")).hexdigest()
    dag = text_of(event.get("dag_id") or "")
    told = {
        "who": text_of(event.get("owner") or "somebody"), "did": "did what cannot be read",
        "application": _application_of(dag, applications), "to": {"dag": dag} if dag else {},
        "details": {"event": text_of(event.get("event")), "sha256": digest, "error": error}, "source": "airflow",
        "source_id": f"event {text_of(event.get('event_log_id'))} of {text_of(event.get('when'))} {digest[:16]}",
    }  # fmt: skip
    try:
        return AuditEvent(at=event["when"], **told)
    except (KeyError, ValidationError):
        return AuditEvent(at=datetime.now(UTC), **told)


def _did(name: str, extra: Mapping[str, Any]) -> str:
    if name == "patch_dag" and "is_paused" in extra:
        return "paused a DAG" if str(extra["is_paused"]).lower() == "true" else "unpaused a DAG"
    if name in STATE and (state := extra.get("state") or extra.get("new_state")):
        return f"marked {STATE[name]} {text_of(state)}"
    return MEANING.get(name, name)


def _details(name: str, extra: Mapping[str, Any]) -> dict[str, Any]:
    if name.startswith("cli_"):
        return {"host": text_of(extra.get("host_name", "")), "command": _command(str(extra.get("full_command", "")))}
    if SECRETS.search(name):
        actions = extra.get("actions")
        told = {"action", "action_on_existence", "action_on_non_existence"}
        kept = [
            {
                **{key: action[key] for key in told if isinstance(action.get(key), str)},
                "of": _names(action.get("entities")),
            }
            for action in (actions if isinstance(actions, list) else [])
            if isinstance(action, dict)
        ]
        return bounded(without_secrets({"method": extra.get("method"), **({"actions": kept} if kept else {})}))
    return bounded(without_secrets(dict(extra)))


def _names(entities: Any) -> list[str]:
    """The names of variables and connections that were changed together."""
    named = [
        entity.get("key") or entity.get("connection_id") if isinstance(entity, dict) else entity
        for entity in (entities if isinstance(entities, list) else [])
    ]
    return [name for name in named if isinstance(name, str)]


def _command(text: str) -> str:
    """What was done by the command line, as in `variables set KEY`: options and values may be secrets."""
    try:
        words = [str(word) for word in ast.literal_eval(text)][1:4]
    except (ValueError, SyntaxError, TypeError):
        return ""
    return text_of(" ".join(word for word in words if not word.startswith("-")))


def _application_of(dag_id: str, applications: Iterable[str]) -> str:
    return max((name for name in applications if dag_id.startswith(f"{name}_")), key=len, default="")


def _json(text: str | None) -> dict[str, Any]:
    """What a request or a command says is an object. Airflow's own notes are text; an object that was cut off is neither."""
    try:
        value = json.loads(text or "")
    except json.JSONDecodeError:
        if text and text.startswith("{"):
            raise
        return {}
    return value if isinstance(value, dict) else {}
