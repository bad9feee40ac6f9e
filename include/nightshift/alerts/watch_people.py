"""Alerts about open approval requests, lost retrainings and the budget. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from nightshift.alerts.alert import Alert
from nightshift.alerts.watch import hours
from nightshift.ledger.budget import Bound
from nightshift.ledger.records import Outcome, Request
from nightshift.settings.application import Application
from nightshift.settings.people import Kind, Severity

BUDGET_TOLD_AT = 0.8


def spent(app: Application, bounds: Iterable[Bound], *, now: datetime) -> list[Alert]:
    """Return the alerts about bounds of a budget that are mostly used."""
    found = []
    for bound in bounds:
        if bound.share < BUDGET_TOLD_AT:
            continue
        over = bound.share >= 1
        what, _, period = bound.setting.replace("gpu_hours", "GPU hours").partition("_a_")
        found.append(
            Alert(
                application=app.name,
                kind=Kind.BUDGET,
                severity=Severity.CRITICAL if over else Severity.WARNING,
                subject=f"{what} {now:%Y-%m-%d}",
                title=f"{bound.share:.0%} of the {period}'s {what} is used",
                where=f"{app.name}, the last {'seven' if period == 'week' else 'thirty'} days",
                facts=[f"{bound.used:,.2f} of {bound.most:,.2f} {what} (budget.{bound.setting})", _held(bound)],
                at=now,
                todo="choose a smaller compute profile or raise the budget; to retrain anyway, force it in the DAG "
                f"{app.name}_retraining",
                condition=f"budget {what}" if period == "week" else f"budget {what} of the month",
                cause="over" if over else "nearly",
            )
        )
    return found


def _held(bound: Bound) -> str:
    """The effect on retrainings."""
    if bound.against:
        return "The policy orders no retraining until the next one fits the budget again; the intervals go on."
    return f"A retraining still fits: it is expected to take {bound.forecast:,.2f}."


def waits(app: Application, request: Request, *, links: Mapping[str, str], now: datetime) -> Alert | None:
    """Return the reminder of a request that is due now; None before the first reminder."""
    asked = now - request.asked
    number = int(asked / timedelta(hours=app.approval.remind_hours))
    if number < 1 or now >= request.until:
        return None
    return Alert(
        application=app.name,
        kind=Kind.APPROVAL_WAITS,
        severity=Severity.WARNING,
        subject=f"version {request.version}",
        title=f"still waits for an answer: {request.subject}",
        where=f"{request.dag_id} {request.run_id}",
        facts=[f"It was asked {hours(asked)} ago; {hours(request.until - now)} are left."],
        at=now,
        since=request.asked,
        todo=f"approve or reject it before {request.until:%Y-%m-%d %H:%M} UTC; an unanswered request is rejected",
        links=dict(links),
        condition=f"approval {request.id}",
        cause=f"{request.id} reminder {number}",
    )


def lost(app: Application, outcome: Outcome, *, now: datetime) -> Alert:
    """Return the alert about a retraining whose run was lost, so that no task of it can send one."""
    return Alert(
        application=app.name,
        kind=Kind.RETRAINING_FINISHED,
        severity=Severity.WARNING,
        subject=f"retraining {outcome.number}",
        title=f"retraining {outcome.number} was lost",
        where=f"{app.name}, DAG {app.name}_finetune, run {outcome.run_id or 'none'}",
        facts=[outcome.explanation],
        at=now,
        since=outcome.ended,
        todo=f"check why {app.name}_finetune did not run or end (is it paused?); the next failing interval may order another",
        condition="retraining failed",
        cause=f"{outcome.number} lost",
    )
