"""Alerts from results of jobs and light tasks: pure functions of a job, its spec and its result.

An interval that passes gives no alert, only the recovery of an open condition.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nightshift.alerts.alert import Alert, ResultAlerts
from nightshift.alerts.of_indexes import of_index
from nightshift.alerts.of_splits import of_ramp
from nightshift.settings.metrics import label_of
from nightshift.settings.people import Kind, Severity
from nightshift.verdict import Verdict

# Codes with which the ledger orders no retraining although enough intervals failed.
REFUSED = {"snoozed", "cooldown", "weekly_runs", "weekly_hours", "budget", "refused", "too_few_new_examples", "hosted"}


def alerts_of(job: str, spec: Any, result: Mapping[str, Any], alerts: ResultAlerts) -> list[Alert]:
    """Return the alerts of a result; most results have none."""
    speaks = SPEAKING.get(job)
    return list(speaks(spec, result, alerts)) if speaks else []


def _ingest(spec: Any, result: Mapping[str, Any], alerts: ResultAlerts) -> Iterator[Alert]:
    interval = spec.interval.key
    what = f"{'prompts' if spec.part == 'traffic' else 'rows'} of {alerts.application.name}"
    condition = f"no data: {spec.part}"
    if result["verdict"] == Verdict.INSUFFICIENT_DATA:
        yield alerts.alert(
            Kind.NO_DATA,
            Severity.WARNING,
            f"no data arrived: no {what} for {interval}",
            subject=spec.part,
            night=interval,
            facts=[result["reason"]],
            todo="look whether the source delivered; when it did, clear the task ingest and what follows. Without it the "
            "interval stays empty. Where data often comes late, raise `clock.arrival_hours` and `clock.grace_hours`",
            condition=condition,
        )
        return
    came = f"{what} came again for {interval}"
    yield alerts.good(Kind.NO_DATA, condition, came, subject=spec.part, night=interval)
    condition = f"unusable: {spec.part}"
    if result["verdict"] == Verdict.PASS:
        yield alerts.good(Kind.DATA_REJECTED, condition, came, subject=spec.part, night=interval)
    else:
        files = "a file with" if result["verdict"] == Verdict.WARN else "all"
        yield alerts.alert(
            Kind.DATA_REJECTED,
            Severity.WARNING,
            f"{files} {what} for {interval} could not be used",
            subject=spec.part,
            night=interval,
            facts=[result["reason"]],
            todo="read quarantine.parquet of the partition; correct the source, and clear the run",
            condition=condition,
            explains=[alerts.failure],
        )


def _validate(spec: Any, result: Mapping[str, Any], alerts: ResultAlerts) -> Iterator[Alert]:
    interval = str(spec.examples).rstrip("/").rpartition("/")[2]
    verdict = result["verdict"]
    if verdict in {Verdict.FAIL, Verdict.ERROR}:
        yield alerts.alert(
            Kind.DATA_REJECTED,
            Severity.WARNING,
            f"the data of {interval} was rejected",
            subject="examples",
            night=interval,
            facts=result["reasons"],
            todo="read the data docs; correct the source and clear the run, or change `validation`",
            condition="data rejected",
            cause=_cause(result["reasons"]),
            explains=[alerts.failure],
        )
    elif verdict == Verdict.INSUFFICIENT_DATA:
        yield alerts.alert(
            Kind.NO_DATA,
            Severity.WARNING,
            f"too little data to judge for {interval}",
            subject="validate",
            night=interval,
            facts=result["reasons"],
            todo="check whether the source delivered all of it",
            condition="no data: validate",
        )
    if verdict in {Verdict.PASS, Verdict.WARN}:
        title = f"the data of {interval} was accepted ({verdict})"
        yield alerts.good(Kind.DATA_REJECTED, "data rejected", title, subject="examples", night=interval)
        yield alerts.good(Kind.NO_DATA, "no data: validate", title, subject="validate", night=interval)


def _intervals(kind: Kind, spec: Any, result: Mapping[str, Any], alerts: ResultAlerts) -> Iterator[Alert]:
    """What a monitor says of each interval that it judged, and of one that is missing."""
    for interval in result["nights"]:
        if interval["night"] != result["missing"]:
            yield from _interval(kind, interval, alerts)
    if result["missing"]:
        yield alerts.alert(
            Kind.NO_DATA,
            Severity.CRITICAL,
            f"the interval {result['missing']} did not arrive: nothing says how the model answers",
            subject="night",
            night=result["missing"],
            facts=[reason for reason in result["reasons"] if result["missing"] in reason][:3],
            todo=f"check the runs of {alerts.application.name}_batch_inference, and the service that answers users",
            condition="no data: night",
            cause=result["missing"],  # each interval that is missing is news
            explains=[alerts.failure],
        )
    elif judged := [interval for interval in result["nights"] if interval["rows"] and not interval.get("challenger")]:
        newest = judged[-1]["night"]
        title = f"the interval {newest} arrived"
        yield alerts.good(Kind.NO_DATA, "no data: night", title, subject="night", night=newest)


def _interval(kind: Kind, interval: Mapping[str, Any], alerts: ResultAlerts) -> Iterator[Alert]:
    name, verdict = interval["night"], interval["verdict"]
    links = {"MLflow run": interval["run_url"] or "", "Report": alerts.report_page(interval["report"])}
    of = ""
    if interval.get("challenger"):
        if verdict == Verdict.INSUFFICIENT_DATA:
            return  # it answers a share of the traffic
        of, name = " of the challenger", f"{name}, answered by the challenger"
    failing, blind, silent = f"{kind}{of}", f"{kind}{of} not judged", f"no data: {kind}{of}"
    common: dict[str, Any] = {
        "subject": kind.value,
        "night": interval["night"],
        "facts": interval["reasons"],
        "links": links,
    }
    if verdict == Verdict.FAIL:
        worst = f", worst in {label_of(interval['worst'], alerts.application.own_metrics)}" if interval["worst"] else ""
        what = " and ".join(interval.get("kinds", [])) or kind
        yield alerts.alert(
            kind,
            Severity.CRITICAL if kind is Kind.BIAS else Severity.WARNING,
            f"{what} in the interval {name}{worst}",
            todo="read the report: what changed, and since when. The dashboard shows whether a retraining follows; the DAG "
            f"{alerts.application.name}_retraining forces or snoozes one",
            condition=failing,
            cause=", ".join(sorted(interval["failing"])),
            **common,
        )
    elif verdict == Verdict.ERROR:
        yield alerts.alert(
            kind,
            Severity.CRITICAL,
            f"the interval {name} could not be judged for {kind}",
            todo="read the log of the task and correct the cause; until then the model's quality is not monitored",
            condition=blind,
            cause=_cause(interval["reasons"]),
            explains=[alerts.failure],
            **common,
        )
    elif verdict == Verdict.INSUFFICIENT_DATA:
        yield alerts.alert(
            Kind.NO_DATA,
            Severity.WARNING,
            f"the interval {name} holds too little to judge {kind}",
            todo="look whether all of the interval's traffic arrived",
            condition=silent,
            **common,
        )
    if verdict in {Verdict.PASS, Verdict.WARN}:
        passed = {**common, "facts": interval["reasons"][:2]}
        yield alerts.good(kind, failing, f"no {kind} any more: the interval {name} says {verdict}", **passed)
    if verdict in {Verdict.PASS, Verdict.WARN, Verdict.FAIL}:
        judged = {**common, "facts": []}
        yield alerts.good(kind, blind, f"the interval {name} was judged for {kind}", **judged)
        yield alerts.good(Kind.NO_DATA, silent, f"the interval {name} was judged for {kind}", **judged)


def _cause(reasons: list[str]) -> str:
    """What went wrong, without what differs from interval to interval: numbers, days, and what was found."""
    return ", ".join(sorted({re.sub(r"\d[\d.,]*", "#", reason.partition(": ")[0]) for reason in reasons}))


def _retraining(_spec: Any, result: Mapping[str, Any], alerts: ResultAlerts) -> Iterator[Alert]:
    code, interval = result["decision"], result["night"]
    if code is None or code == "no_data":
        return  # which says nothing about whether the intervals fail
    if code not in REFUSED:
        title = f"retraining is no longer blocked ({code.replace('_', ' ')})"
        yield alerts.good(Kind.RETRAINING_REFUSED, "retraining refused", title, subject="retraining", night=interval)
        return
    yield alerts.alert(
        Kind.RETRAINING_REFUSED,
        # No warning: a person snoozed it.
        Severity.INFO if code == "snoozed" else Severity.WARNING,
        f"no retraining although the intervals fail: {code.replace('_', ' ')}",
        subject="retraining",
        occurrence="",
        night=interval,
        facts=[result["reason"]],
        todo=f"if it cannot wait, force one with the DAG {alerts.application.name}_retraining, or change the `retraining` policy",
        condition="retraining refused",
        cause=code,
    )


def _due(_spec: Any, result: Mapping[str, Any], alerts: ResultAlerts) -> Iterator[Alert]:
    number = result["order"]
    if number is None:
        return
    yield alerts.good(
        Kind.RETRAINING_REFUSED, "retraining refused", f"retraining {number} started", subject="retraining"
    )
    yield alerts.alert(
        Kind.RETRAINING_STARTED,
        Severity.INFO,
        f"retraining {number} started",
        subject=f"retraining {number}",
        occurrence="",
        facts=[result["reason"]],
        todo="nothing: its result is sent, too",
    )


def _close(_spec: Any, result: Mapping[str, Any], alerts: ResultAlerts) -> Iterator[Alert]:
    number, outcome = result["order"], result["outcome"]
    if number is None:
        return
    facts = [result["reason"], f"{result['hours']:.2f} hours of training"]
    if outcome == "registered":
        yield alerts.good(
            Kind.RETRAINING_FINISHED, "retraining failed", f"retraining {number} has a model", subject="retraining"
        )
        yield alerts.alert(
            Kind.RETRAINING_FINISHED,
            Severity.INFO,
            f"retraining {number} is finished: its model is registered",
            subject=f"retraining {number}",
            occurrence="",
            facts=facts,
            todo=f"nothing: {alerts.application.name}_release decides whether it becomes the champion",
        )
        return
    if outcome == "cancelled":
        yield alerts.alert(
            Kind.RETRAINING_FINISHED,
            Severity.INFO,
            f"retraining {number} was cancelled",
            subject=f"retraining {number}",
            facts=facts,
            todo="nothing: the next interval that asks for one orders another",
            explains=[alerts.failure],
        )
        return
    yield alerts.alert(
        Kind.RETRAINING_FINISHED,
        Severity.WARNING,
        f"retraining {number} {outcome}",
        subject=f"retraining {number}",
        facts=facts,
        todo="read the log of the failed task; clearing it makes the run train for the same order again",
        condition="retraining failed",
        cause=str(number),
        explains=[alerts.failure],
    )


def _release(_spec: Any, result: Mapping[str, Any], alerts: ResultAlerts) -> Iterator[Alert]:
    """A candidate that its gate or shadow holds back; none if people decide, since they get a request."""
    version, verdict = result["version"], result["verdict"]
    if version is None or result["released"] or result["ask"] or verdict == Verdict.PASS:
        return
    yield alerts.alert(
        Kind.GATE_FAILED,
        Severity.WARNING,
        f"version {version} is held back: gate and shadow say {verdict}",
        subject=f"version {version}",
        occurrence="",
        facts=result["reasons"],
        todo=f"read the numbers; after a WARN, {alerts.application.name}_release can release the version by hand with a reason",
        condition="gate failed",
        cause=f"{version} {verdict}",
    )


def _promote(_spec: Any, result: Mapping[str, Any], alerts: ResultAlerts) -> Iterator[Alert]:
    if result["version"] is not None:
        title = f"version {result['version']} is the champion"
        yield alerts.good(Kind.GATE_FAILED, "gate failed", title, subject="release")
        yield alerts.good(Kind.BELOW_PROMISE, "below promise", title, subject="release")
    # A try that found the alias moved before does not know which intervals were judged since.
    if (replaced := result["replaced"]) is not None:
        for kind in (Kind.DRIFT, Kind.BIAS):
            title = f"version {result['version']} replaced version {replaced}, for which {kind} was found"
            facts = ["the next interval is judged with the new version"]
            yield alerts.good(kind, kind.value, title, subject=kind.value, facts=facts)


def _drift(spec: Any, result: Mapping[str, Any], alerts: ResultAlerts) -> Iterator[Alert]:
    yield from _intervals(Kind.DRIFT, spec, result, alerts)
    yield from of_index(spec, result, alerts)


def _bias(spec: Any, result: Mapping[str, Any], alerts: ResultAlerts) -> Iterator[Alert]:
    return _intervals(Kind.BIAS, spec, result, alerts)


SPEAKING: dict[str, Callable[[Any, Mapping[str, Any], ResultAlerts], Iterator[Alert]]] = {
    "ingest": _ingest,
    "validate": _validate,
    "drift": _drift,
    "bias": _bias,
    "retraining": _retraining,
    "due": _due,
    "close": _close,
    "release": _release,
    "promote": _promote,
    "ramp": of_ramp,
}
