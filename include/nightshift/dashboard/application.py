"""All that is known of one application, gathered for its page: each part by itself, so that none takes the others along."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nightshift.alerts.alert import Alert
from nightshift.alerts.outbox import Outbox, Waiting
from nightshift.config import Application
from nightshift.dashboard import airflow_state, ledger, models, nights, spending
from nightshift.dashboard.freshness import Fresh, freshness
from nightshift.dashboard.mlflow_rest import Mlflow, Training
from nightshift.dashboard.nights import TREND, JudgedNight
from nightshift.dashboard.panels import Panel, panel
from nightshift.dashboard.state import Facts, State, state_of
from nightshift.dashboard.stored import Store, read_each, readers
from nightshift.data.partition import Manifest
from nightshift.jobs.usage import PodUsage
from nightshift.monitoring.policy import Monitor, Snooze

NOVEL_SHOWN = 6


@dataclass(frozen=True)
class Models:
    """Champion and candidate; None where there is none."""

    champion: models.Model | None
    candidate: models.Model | None


@dataclass(frozen=True)
class Trend:
    """The newest nights: verdicts by monitor, what moved most in each, and what is known of their interactions."""

    judged: Mapping[Monitor, Sequence[JudgedNight]]
    effects: Mapping[JudgedNight, nights.Effect | None]
    answered: Sequence[nights.Answered]
    quality: str | None
    unreadable: Sequence[str]


@dataclass(frozen=True)
class Why:
    """What the newest drift verdict says: metrics that moved, where, and prompts that are unlike all before."""

    night: JudgedNight
    metrics: Sequence[Mapping[str, Any]]
    segments: Sequence[Mapping[str, Any]]
    novel: Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Decisions:
    """The story of the ledger, and what of it is still open."""

    story: ledger.Story
    retrainings: Sequence[ledger.Retraining]
    asked: Sequence[ledger.Asked]
    snooze: Snooze | None


@dataclass(frozen=True)
class Told:
    """Conditions that hold, and messages that some route lacks."""

    open: Sequence[Alert]
    waiting: Sequence[Waiting]


@dataclass(frozen=True)
class Reports:
    """Interval and address of the newest data docs and replay; () where there are none."""

    data_docs: tuple[str, ...]
    replay: tuple[str, ...]
    replay_facts: Manifest | None


@dataclass(frozen=True)
class Page:
    """What the page shows; each part may be in trouble."""

    app: Application
    state: State
    models: Panel[Models]
    trend: Panel[Trend]
    why: Panel[Why | None]
    decisions: Panel[Decisions]
    told: Panel[Told]
    runs: Panel[list[airflow_state.Run]] | None  # None: the user may not see runs
    waiting: Panel[list[airflow_state.Waiting]] | None
    training: Panel[Training | None]
    pods: Panel[list[PodUsage]]
    spent: Sequence[spending.Spent]
    fresh: Panel[list[Fresh]]
    reports: Panel[Reports]


def gather(app: Application, storage: str, *, may_see_runs: bool) -> Page:
    """Return what is known of an application now."""
    now, store = datetime.now(UTC), Store(storage, app.name)
    with ThreadPoolExecutor(readers(storage) + 1, "nightshift-page") as pool:  # one of them waits for MLflow

        def later(read: Callable[[], Any]) -> Future[Panel[Any]]:
            return pool.submit(panel, read)

        training = later(lambda: Mlflow(airflow_state.mlflow_connection()).newest_training(app.name))
        trend = later(lambda: _trend(store))
        found = later(lambda: _models(store))
        decisions = later(lambda: _decisions(store, now))
        told = later(lambda: _told(storage, app))
        pods = later(lambda: spending.week_of_pods(store, now))
        reports = later(lambda: _reports(store))
        runs = later(lambda: airflow_state.runs_in_progress(app.name)) if may_see_runs else None
        waiting = (
            later(lambda: airflow_state.waiting_for_people([app.name]).get(app.name, [])) if may_see_runs else None
        )
        judged = panel(lambda: nights.last_nights(store, TREND)[0])
        champion = panel(lambda: models.champion(store))
        digest = champion.shown.digest if champion.shown else ""
        fresh = later(lambda: freshness(store, app, judged.shown or {}, digest, now))
        why = later(lambda: _why(store, (judged.shown or {}).get("drift", [])))
    known: Panel[Decisions] = decisions.result()
    retrainings = list(known.shown.retrainings) if known.shown else []
    asked: Panel[list[airflow_state.Waiting]] | None = waiting.result() if waiting else None
    alerts: Panel[Told] = told.result()
    partitions: Panel[list[Fresh]] = fresh.result()
    used = spending.used_by(pods.result().shown or [])
    facts = Facts(
        nights=judged.shown or {},
        champion=champion.shown,
        retraining=ledger.open_retraining(retrainings),
        waits=[one.subject for one in (asked.shown if asked else None) or ()],
        alerts=[(alert.severity, alert.title) for alert in alerts.shown.open] if alerts.shown else [],
        stale=[one for one in partitions.shown or () if one.stale],
    )
    return Page(
        app=app,
        state=state_of(facts),
        models=found.result(),
        trend=trend.result(),
        why=why.result(),
        decisions=known,
        told=alerts,
        runs=runs.result() if runs else None,
        waiting=asked,
        training=training.result(),
        pods=pods.result(),
        spent=spending.spent_this_week(app, used, *ledger.this_week(retrainings, now)),
        fresh=partitions,
        reports=reports.result(),
    )


def _models(store: Store) -> Models:
    current = models.champion(store)
    return Models(current, models.candidate(store, current, models.gate_records(store)))


def _trend(store: Store) -> Trend:
    judged, unreadable = nights.last_nights(store, TREND)
    every = [night for own in judged.values() for night in own]
    found = read_each(store.storage, lambda night: panel(lambda: nights.largest_effect(store, night)), every)
    unreadable += [one.trouble for one in found if one.trouble]
    answered = nights.answered_nights(store, TREND)
    effects = {night: one.shown for night, one in zip(every, found, strict=True)}
    return Trend(judged, effects, answered, nights.quality_shown(answered), unreadable)


def _why(store: Store, judged: Sequence[JudgedNight]) -> Why | None:
    if not judged:
        return None
    night = judged[-1]
    verdict = nights.verdict_file(store, night)
    moved = [one for one in verdict.get("metrics", []) if one["verdict"] in {"WARN", "FAIL"}]
    where = [one for one in verdict.get("segments", []) if one["verdict"] in {"WARN", "FAIL"}]
    return Why(night, moved, where[:5], _novel(store, night))


def _novel(store: Store, night: JudgedNight) -> Sequence[Mapping[str, str]]:
    manifest = store.manifest("drift", night.interval, night.address)
    if manifest is None or "report.json" not in night.files:
        return []
    content = store.read("drift", night.interval, night.address, manifest.file("report.json").path)
    new = json.loads(content or b"{}").get("new", [])
    return [{key: str(one.get(key, "")) for key in ("prompt", "response", "novelty")} for one in new[:NOVEL_SHOWN]]


def _decisions(store: Store, now: datetime) -> Decisions:
    retrainings, asleep, asked = ledger.retrainings(store), ledger.snoozes(store), ledger.requests(store)
    gates = models.gate_records(store)
    told = ledger.story(store, retrainings, gates, asleep, asked)
    return Decisions(told, retrainings, asked, ledger.snoozed(asleep, now))


def _told(storage: str, app: Application) -> Told:
    outbox = Outbox(storage, app.name)
    return Told(outbox.open(), outbox.waiting(app.alerts))


def _reports(store: Store) -> Reports:
    days = store.names("data_docs")
    docs = store.names("data_docs", days[-1]) if days else []
    replays = store.newest("replay_reports", most=1)
    replay = replays[-1] if replays else ()
    return Reports(
        (days[-1], docs[-1]) if docs else (),
        replay,
        store.manifest("replay_reports", *replay) if replay else None,
    )
