"""One sample alert of each kind, for `nightshift alerts test`, marked as a test."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from nightshift.alerts.alert import Alert
from nightshift.settings.people import Kind, Severity

# A title, facts and the usual severity of each kind.
SAMPLES: dict[Kind, tuple[Severity, str, str, str]] = {
    Kind.DATA_REJECTED: (
        Severity.WARNING, "the data of {day} was rejected", "12 % of the answers are empty, 5 % are allowed",
        "correct the source and clear the run",
    ),
    Kind.NO_DATA: (
        Severity.CRITICAL, "the interval {day} did not arrive", "no interactions of {day} are published",
        "look at the runs of {app}_batch_inference",
    ),
    Kind.DRIFT: (
        Severity.WARNING, "drift in the interval {day}, worst in topics", "topics: Jensen-Shannon distance 0.31, 0.20 is FAIL",
        "read the report; the ledger says whether a retraining follows",
    ),
    Kind.BIAS: (
        Severity.CRITICAL, "bias in the interval {day}, worst in refusal", "refusals differ by 9 points between two groups",
        "read the report before anything else is released",
    ),
    Kind.RETRAINING_STARTED: (
        Severity.INFO, "retraining 7 started", "2 of the newest 3 intervals failed", "nothing: its result is sent, too",
    ),
    Kind.RETRAINING_REFUSED: (
        Severity.WARNING, "no retraining although the intervals fail: cooldown",
        "the last retraining was registered 1.2 days ago, the cooldown is 3 days", "force one if it cannot wait",
    ),
    Kind.RETRAINING_FINISHED: (
        Severity.INFO, "retraining 7 is finished: its model is registered", "version 8, its gate says PASS", "nothing",
    ),
    Kind.GATE_FAILED: (
        Severity.WARNING, "version 8 is held back: gate and shadow say FAIL", "exact match 0.71, the champion has 0.78",
        "read the numbers of the comparison",
    ),
    Kind.BELOW_PROMISE: (
        Severity.CRITICAL, "version 8 scores below what was promised",
        "exact match 61.0% in 640 rows against promised 75.0% in 500", "start {app}_rollback to roll it back",
    ),
    Kind.APPROVAL_WAITS: (
        Severity.WARNING, "may version 8 replace version 7?", "its gate says WARN",
        "approve or reject it; an unanswered request is rejected",
    ),
    Kind.SPLIT: (
        Severity.WARNING, "version 8 was stopped in its split", "version 8 at 5% is worse by more than 5.0%",
        "read what both versions answered",
    ),
    Kind.JOB_FAILED: (
        Severity.CRITICAL, "{app}_batch_inference: generate failed", "the process was killed by SIGKILL",
        "read the log of the task",
    ),
    Kind.JOB_STUCK: (
        Severity.CRITICAL, "{app}_finetune: train has run for 9.0 hours",
        "The longest of its last ten successful tries took 2.5 hours.", "read its log; if it hangs, mark it failed",
    ),
    Kind.DEADLINE_MISSED: (
        Severity.WARNING, "{app}_ingest is not done after 12 hours", "The run is running.", "check which task it waits for",
    ),
    Kind.BUDGET: (
        Severity.WARNING, "83 % of the week's GPU hours is used", "33.20 of 40.00 GPU hours", "snooze retraining, or raise it",
    ),
}  # fmt: skip


def samples(application: str, links: Mapping[str, str], now: datetime) -> list[Alert]:
    """Return one alert of each kind. None opens a condition, and each test is news."""
    day = f"{now:%Y-%m-%d}"
    return [
        Alert(
            application=application,
            kind=kind,
            severity=severity,
            title=title.format(day=day, app=application),
            night=day,
            where=f"a test of the routes of {application}",
            facts=[fact.format(day=day, app=application), "This is a test. Nothing happened."],
            at=now,
            todo=f"nothing; if it were real: {todo.format(app=application)}",
            links=dict(links),
            occurrence=now.isoformat(),
            test=True,
        )
        for kind, (severity, title, fact, todo) in SAMPLES.items()
    ]
