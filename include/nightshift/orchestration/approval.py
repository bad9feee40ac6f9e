"""The task `approve`: asks the approvers of an application about a release and waits for them without holding a worker."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param, Variable
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput

from nightshift.access.users import USERS_VARIABLE
from nightshift.errors import BadInput
from nightshift.ledger.approval import keep_answer, keep_request, sentence
from nightshift.ledger.gate_records import put_to_people
from nightshift.ledger.records import Answer, GateRecord, Request
from nightshift.ledger.releases import decided_after
from nightshift.ledger.store import Ledger
from nightshift.orchestration.attempt import storage_uri
from nightshift.orchestration.contest import ReleaseDecision
from nightshift.orchestration.ledger_task import RETRIES, airflow_errors, ledger_task
from nightshift.orchestration.links import application_page
from nightshift.settings.application import Application
from nightshift.settings.people import Kind, Severity
from nightshift.shown import storable

APPROVE, REJECT = "Approve", "Reject"
# Not `reason`: Airflow prefills a field with the run's parameter of the same name, and an approver who only clicks would
# send the requester's reason as their own.
FIELD = "why"
LONGEST_REASON = 2_000
REASON = Param(
    None,
    type=["null", "string"],
    maxLength=LONGEST_REASON,
    title="Reason",
    description="why; kept with your name in the ledger and in MLflow",
    source="task",
)
# What a request is about: fields of a decision, too.
ABOUT = {"version", "model_digest", "evaluation_digest", "champion_digest", "after"}
ANEW = "clear the task release to decide anew"
SHORTEST_WAIT = timedelta(seconds=1)
# How long storage may fail before an answer is lost.
KEEP_TRYING, PAUSE = timedelta(minutes=10), timedelta(seconds=5)


class ApproveRelease(HITLOperator):
    """Asks people to approve the decision of the task `release`; skipped if that decision needs no approval.

    The answer is kept in the ledger, and returned as :class:`nightshift.ledger.policy.Answer`. An unanswered request is
    rejected. The task succeeds whatever the answer is; the next task acts on it.

    :param app: the application; its `approval` names the approvers and the time limit.
    """

    ui_color = "#f6ecd9"

    def __init__(self, *, app: Application, **kwargs: Any) -> None:
        super().__init__(
            subject=f"Release a candidate of {app.name}?",  # until the decision says more
            options=[APPROVE, REJECT],
            defaults=[REJECT],
            response_timeout=timedelta(hours=app.approval.timeout_hours),
            # Without the DAG's own params, which Airflow adds to those of a task: it silently fails a task at its start if
            # one of them has no valid default.
            **{**RETRIES, **kwargs, "params": {FIELD: REASON}},
        )
        self.application = app.name

    def execute(self, context: Any) -> dict[str, Any]:
        """Record the request, open it in Airflow and notify people; return an answer that was kept before.

        :raises AirflowSkipException: no approval is needed.
        :raises AirflowFailException: the decision is malformed, or not one in the ledger that still counts; or none of the
            approvers is a user of this Airflow.
        :raises EnvironmentDown: storage cannot be reached.
        """
        with airflow_errors(self.application, context):
            decision = ReleaseDecision.of(context["ti"].xcom_pull(task_ids="release"))
            if not decision.ask:
                raise AirflowSkipException(f"no approval needed: {'; '.join(decision.reasons)}")
        with ledger_task(self.application, context) as (app, ledger):
            request = self._request(app, decision, context)
            decided = _refuse_foreign(ledger, decision, request)
            if answer := ledger.answer(request.id):
                return self._answered(ledger, answer)
            _refuse_stale(ledger, decided)
            self.assigned_users = self._assigned(app.approval.approvers)
            request = keep_request(ledger, request)
            self.subject = request.subject
            self.body = f"{decision.body}\n\n[Everything about {app.name}]({application_page(app.name)})\n"
            self.response_timeout = max(request.until - datetime.now(UTC), SHORTEST_WAIT)
            try:
                return super().execute(context)
            except TaskAwaitingInput:
                # The request is open in Airflow now, so that a link to it works.
                self._notify(app, request, decision, context)
                raise

    def execute_complete(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """Keep the answer and return it.

        Airflow drops the answer when the task is tried again. So nothing in it fails the task, and a failing storage is
        retried for ten minutes. The request is the one of this run in the ledger, even if the decision in Airflow changed.
        """
        given = super().execute_complete(context, event)
        user = given["responded_by_user"]
        said = "approved" if given["chosen_options"] == [APPROVE] else "rejected"
        answer = Answer(
            id="",
            answer=said if user and not event.get("timedout") else "timeout",
            by=storable(str(user["name"])) if user else "",
            reason=_reason(given["params_input"]),
            answered=given["responded_at"],
        )
        self.log.info("answer: %s by %s, reason %r", answer.answer, answer.by or "nobody", answer.reason)
        until = time.monotonic() + KEEP_TRYING.total_seconds()
        with airflow_errors(self.application, context):
            while True:
                try:
                    ledger = Ledger(storage_uri(), self.application)
                    asked = self._asked(ledger, context["ti"])
                    return self._answered(ledger, answer.model_copy(update={"id": asked.id}))
                except AirflowFailException:
                    raise
                except Exception as error:  # object stores have errors of their own
                    if time.monotonic() > until:
                        raise
                    self.log.warning("the answer cannot be written to the ledger yet, trying again: %s", error)
                time.sleep(PAUSE.total_seconds())

    def validate_params_input(self, params_input: Mapping[str, Any]) -> None:
        """Accept any input: Airflow's API does not check it, and has taken the answer already."""

    def _assigned(self, approvers: list[str]) -> list[dict[str, str]] | None:
        """The approvers as Airflow's users; None: all users whose role may answer."""
        if not approvers:
            return None
        known = known_users()
        missing = [name for name in approvers if name not in known]
        if missing:
            self.log.error(
                "approvers of %s that are not users of this Airflow: %s", self.application, ", ".join(missing)
            )
        if len(missing) == len(approvers):
            raise AirflowFailException(
                f"nobody can answer for {self.application}: of its approvers ({', '.join(approvers)}) none is a user of "
                "this Airflow. Correct approval.approvers, or add the users and run `nightshift roles sync`"
            )
        return [{"id": known[name], "name": name} for name in approvers if name in known]

    def _request(self, app: Application, decision: ReleaseDecision, context: Any) -> Request:
        ti, now = context["ti"], datetime.now(UTC)
        return Request(
            **decision.model_dump(include={*ABOUT, "verdict", "subject"}),
            id=decision.request or "",
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            approvers=app.approval.approvers,
            asked_by=storable(context["dag_run"].triggering_user_name or ""),
            asked=now,
            until=now + timedelta(hours=app.approval.timeout_hours),
        )

    def _asked(self, ledger: Ledger, ti: Any) -> Request:
        """The newest request of the run; an earlier one is withdrawn when its decision is made again."""
        place = (ti.dag_id, ti.run_id)
        asked = [one for one in ledger.requests().values() if (one.dag_id, one.run_id) == place]
        if not asked:
            raise AirflowFailException(f"the ledger {ledger.home} has no request of {ti.dag_id} {ti.run_id}")
        return asked[-1]

    def _answered(self, ledger: Ledger, answer: Answer) -> dict[str, Any]:
        """Keep an answer, and return the one that is kept."""
        kept = keep_answer(ledger, answer)
        self.log.info("request %s: %s", kept.id, sentence(kept))
        return kept.model_dump(mode="json")

    def _notify(self, app: Application, request: Request, decision: ReleaseDecision, context: Any) -> None:
        from nightshift.alerts.alert import Alert
        from nightshift.orchestration.telling import notify

        alert = Alert(
            application=app.name,
            kind=Kind.APPROVAL_WAITS,
            severity=Severity.WARNING,
            title=request.subject,
            subject=f"version {request.version}",
            where=f"{request.dag_id} {request.run_id}",
            facts=decision.reasons,
            since=request.asked,
            todo=f"approve or reject it before {request.until:%Y-%m-%d %H:%M} UTC; an unanswered request is rejected",
            links={
                "Answer": self.generate_link_to_ui_from_context(context=context),
                "Nightshift": application_page(app.name),
            },
            condition=f"approval {request.id}",
            # An earlier try of the task may have had an answer and lost it.
            cause=f"{request.id} {context['ti'].try_number}",
        )
        notify(app, [alert])


def _refuse_foreign(ledger: Ledger, decision: ReleaseDecision, request: Request) -> GateRecord:
    """Return the decision as the ledger has it: Airflow's API can change results of tasks, but not the ledger.

    :raises BadInput: the ledger has no such decision, or has a request of this id about something else.
    """
    known = ledger.request(request.id)
    if known and known.model_dump(include=ABOUT) != request.model_dump(include=ABOUT):
        raise BadInput(
            f"request {request.id} is about version {known.version}, but the task release returned another decision; {ANEW}"
        )
    decided = [
        one
        for one in put_to_people(ledger, decision.model_digest, decision.evaluation_digest, decision.champion_digest)
        if (one.verdict, one.after) == (decision.verdict, decision.after)
    ]
    if not decided:
        raise BadInput(
            f"the ledger has no decision about version {decision.version} with verdict {decision.verdict} that needs approval: "
            f"the result of the task release was changed, or belongs to another application; {ANEW}"
        )
    return decided[-1]


def _refuse_stale(ledger: Ledger, decided: GateRecord) -> None:
    """:raises BadInput: a later release spent the decision, and an answer would have no effect."""
    releases = ledger.releases()
    if decided_after(decided, releases) != len(releases):
        raise BadInput(
            f"another release came after the decision about version {decided.version}, so an answer has no effect; {ANEW}"
        )


def known_users() -> dict[str, str]:
    """Return the ids of Airflow's users by name, from the settings of the simple auth manager or the Variable `nightshift_users`.

    :raises AirflowFailException: there is no such Variable, or it is no JSON object.
    """
    text = Variable.get(USERS_VARIABLE, default=None)
    if text is None and conf.get("core", "auth_manager", fallback="").endswith(".SimpleAuthManager"):
        entries = conf.get("core", "simple_auth_manager_users", fallback="").split(",")
        return {name: name for entry in entries if (name := entry.partition(":")[0].strip())}
    users = None
    with suppress(ValueError):
        users = json.loads(text or "")
    if not isinstance(users, dict):
        raise AirflowFailException(
            f"the Airflow Variable {USERS_VARIABLE!r} must be a JSON object with the id of each user by name, and is not: "
            "`nightshift roles sync` writes it"
        )
    return {str(name): str(number) for name, number in users.items()}


def _reason(given: Any) -> str:
    """The reason in a form that Airflow did not check."""
    reason = given.get(FIELD) if isinstance(given, Mapping) else given
    return "" if reason is None else storable(str(reason)[:LONGEST_REASON]).strip()
