"""What a job's result says to people: pure functions from a job, its spec and its result to alerts and recoveries.

An interval is normal when it passes, and nothing is said of it, unless it ends what was told before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nightshift.alerts.alert import Alert
from nightshift.alerts.of_indexes import of_index
from nightshift.alerts.of_splits import of_ramp
from nightshift.settings.application import Application
from nightshift.settings.metrics import label_of
from nightshift.settings.people import Kind, Severity
from nightshift.verdict import Verdict

# What keeps the ledger from ordering a retraining although enough intervals failed.
REFUSED = {"snoozed", "cooldown", "weekly_runs", "weekly_hours", "budget", "refused", "too_few_new_examples", "hosted"}


@dataclass(frozen=True)
class ResultAlerts:
    """What all alerts of one result have in common.

    :param where: application, DAG, run and task, for a person.
    :param links: pages about the run, by name; `report_page` gives the page of one report by its URI.
    :param failure: id of the alert that tells that this run failed: what explains the failure makes it superfluous. Two
        tries of one run have the same, a run that was cleared has another.
    """

    application: Application
    where: str
    links: Mapping[str, str]
    report_page: Callable[[str | None], str]
    failure: str
    now: datetime

    def alert(self, kind: Kind, severity: Severity, title: str, **fields: Any) -> Alert:
        """Return an alert of this result."""
        links = {name: url for name, url in {**self.links, **fields.pop("links", {})}.items() if url}
        return Alert(
            application=self.application.name, where=self.where, at=self.now,
            kind=kind, severity=severity, title=title, links=links, **{"occurrence": self.failure, **fields},
        )  # fmt: skip

    def good(self, kind: Kind, condition: str, title: str, **fields: Any) -> Alert:
        """Return a recovery; the outbox drops it where nothing was open."""
        return self.alert(kind, Severity.INFO, title, condition=condition, good=True, **fields)


def alerts_of(job: str, spec: Any, result: Mapping[str, Any], alerts: ResultAlerts) -> list[Alert]:
    """Return what a result says to people; most say nothing."""
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
            todo="look at quarantine.parquet of the partition; correct the source, and clear the run",
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
            todo="look at the data docs; correct the source and clear the run, or change what `validation` asks",
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
            todo="look whether the source delivered all of it",
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
            todo=f"look at the runs of {alerts.application.name}_batch_inference, and at what serves the traffic",
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
    common: dict[str, Any] = {"subject": kind.value, "night": name, "facts": interval["reasons"], "links": links}
    if verdict == Verdict.FAIL:
        worst = f", worst in {label_of(interval['worst'], alerts.application.own_metrics)}" if interval["worst"] else ""
        what = " and ".join(interval.get("kinds", [])) or kind
        yield alerts.alert(
            kind,
            Severity.CRITICAL if kind is Kind.BIAS else Severity.WARNING,
            f"{what} in the interval {name}{worst}",
            todo="read the report: what moved, and since when. The ledger says whether a retraining follows; the DAG "
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
            todo="read the log of the task; until it is mended nothing says whether the model answers well",
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
        title = f"nothing keeps a retraining back any more ({code.replace('_', ' ')})"
        yield alerts.good(Kind.RETRAINING_REFUSED, "retraining refused", title, subject="retraining", night=interval)
        return
    yield alerts.alert(
        Kind.RETRAINING_REFUSED,
        # A person who snoozed it knows.
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
        todo="nothing: what comes of it is told, too",
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
        todo="read the log of the failed task; clear it, and the run trains for the same order again",
        condition="retraining failed",
        cause=str(number),
        explains=[alerts.failure],
    )


def _release(_spec: Any, result: Mapping[str, Any], alerts: ResultAlerts) -> Iterator[Alert]:
    """A candidate that is held back by its gate or its shadow; where people decide about it, they know."""
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
        todo="read the numbers; one whose verdict is WARN can be released by hand with a reason (the form of "
        f"{alerts.application.name}_release)",
        condition="gate failed",
        cause=f"{version} {verdict}",
    )


def _promote(_spec: Any, result: Mapping[str, Any], alerts: ResultAlerts) -> Iterator[Alert]:
    if result["version"] is not None:
        title = f"version {result['version']} is the champion"
        yield alerts.good(Kind.GATE_FAILED, "gate failed", title, subject="release")
        yield alerts.good(Kind.BELOW_PROMISE, "below promise", title, subject="release")
    # Of a try that only found the alias moved it is not known which intervals were judged since.
    if (replaced := result["replaced"]) is not None:
        for kind in (Kind.DRIFT, Kind.BIAS):
            title = f"version {result['version']} replaced version {replaced}, which {kind} was found with"
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
