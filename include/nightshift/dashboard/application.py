"""The content of an application's page: each part is read by itself, so that one that fails does not affect the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nightshift.alerts.alert import Alert
from nightshift.alerts.outbox import Outbox, Waiting
from nightshift.dashboard import airflow_state, intervals, ledger, models, spending
from nightshift.dashboard.choices import choices_of
from nightshift.dashboard.drift_details import DriftDetails, drift_details
from nightshift.dashboard.freshness import Fresh, freshness
from nightshift.dashboard.intervals import TREND, JudgedInterval
from nightshift.dashboard.mlflow_rest import Mlflow, Training
from nightshift.dashboard.panels import Panel, panel
from nightshift.dashboard.state import State, StateInput, state_of, without_approvals
from nightshift.dashboard.stored import Store
from nightshift.errors import BadInput
from nightshift.evaluation.choices import Preference, preference_of
from nightshift.evaluation.shadow_file import ShadowFile
from nightshift.evaluation.watch_file import WatchFile
from nightshift.ledger.pod_accounts import PodUsage
from nightshift.ledger.records import AlertResponse, Monitor, Snooze, Split, SplitLook
from nightshift.ledger.spending import Summary, summary_now
from nightshift.ledger.store import Ledger
from nightshift.settings.application import Application
from nightshift.storage.files import read_each, readers
from nightshift.verdict import Verdict


@dataclass(frozen=True)
class Models:
    """Champion, candidate, the newest shadow with its address and people's preference in it, and the champion's watch.

    Each may be None.
    """

    champion: models.Model | None
    candidate: models.Model | None
    shadow: tuple[str, ShadowFile] | None
    preferred: Panel[Preference] | None
    watch: WatchFile | None


@dataclass(frozen=True)
class Trend:
    """The newest intervals: verdicts by monitor, the largest effect in each, and statistics of their interactions."""

    judged: Mapping[Monitor, Sequence[JudgedInterval]]
    effects: Mapping[JudgedInterval, intervals.Effect | None]
    answered: Sequence[intervals.Answered]
    challenged: Mapping[str, intervals.Answered]  # what a challenger answered of an interval, by its key
    quality: str | None
    unreadable: Sequence[str]

    def answered_by(self, judged: JudgedInterval) -> str:
        """Return the version that answered an interval; it may differ from the one that the verdict is about."""
        versions = {one.interval: one.model_version for one in self.answered}
        return versions.get(judged.interval) or judged.model_version


@dataclass(frozen=True)
class Decisions:
    """The history of the ledger, and what is still open."""

    story: ledger.Story
    retrainings: Sequence[ledger.Retraining]
    asked: Sequence[ledger.Asked]
    snooze: Snooze | None
    split: tuple[Split, float, SplitLook | None] | None
    of_challenger: JudgedInterval | None


@dataclass(frozen=True)
class OpenAlerts:
    """Open conditions, responses to them that still hold, and messages that some route does not have yet."""

    open: Sequence[Alert]
    responses: Mapping[str, AlertResponse]
    waiting: Sequence[Waiting]


@dataclass(frozen=True)
class Replay:
    """Whether the newest retraining helped, measured on the interval that caused it; `address` is interval and folder."""

    address: tuple[str, ...]
    verdict: Verdict
    reasons: Sequence[str]


@dataclass(frozen=True)
class Reports:
    """Interval and address of the newest data docs, () without any, and the newest replay."""

    data_docs: tuple[str, ...]
    replay: Replay | None


@dataclass(frozen=True)
class Page:
    """The parts of the page, each of which may have failed."""

    app: Application
    state: State
    models: Panel[Models]
    trend: Panel[Trend]
    why: Panel[DriftDetails | None]
    decisions: Panel[Decisions]
    open_alerts: Panel[OpenAlerts]
    alerts: Sequence[Alert]  # open ones, without those that only repeat a waiting request
    runs: Panel[list[airflow_state.Run]] | None  # None: the user may not see runs
    waiting: Panel[list[airflow_state.Waiting]] | None
    training: Panel[Training | None]
    pods: Panel[list[PodUsage]]
    spent: Sequence[spending.Spent]
    fresh: Panel[list[Fresh]]
    reports: Panel[Reports]


def gather(app: Application, storage: str, *, may_see_runs: bool) -> Page:
    """Read all parts of an application's page."""
    now, store, records = datetime.now(UTC), Store(storage, app.name, app.zone), Ledger(storage, app.name)
    with ThreadPoolExecutor(readers(store.place) + 1, "nightshift-page") as pool:  # one of them waits for MLflow

        def later(read: Callable[[], Any]) -> Future[Panel[Any]]:
            return pool.submit(panel, read)

        training = later(lambda: Mlflow(airflow_state.mlflow_connection()).newest_training(app.name))
        trend = later(lambda: _trend(store, records, app))
        found = later(lambda: _models(store, records, app))
        decisions = later(lambda: _decisions(store, records, now))
        open_alerts = later(lambda: _open_alerts(storage, app, records, now))
        pods = later(lambda: spending.week_of_pods(store, now))
        summary = later(lambda: summary_now(records, now))
        reports = later(lambda: _reports(store))
        runs = later(lambda: airflow_state.runs_in_progress(app.name)) if may_see_runs else None
        waiting = (
            later(lambda: airflow_state.waiting_for_people([app.name]).get(app.name, [])) if may_see_runs else None
        )
        judged = panel(lambda: intervals.last_judged(records.index(), TREND, app.zone)[0])
        champion = panel(lambda: models.champion(store, records))
        digest = champion.shown.digest if champion.shown else ""
        fresh = later(lambda: freshness(store, records.index(), app, judged.shown or {}, digest, now))
        details = later(lambda: drift_details(store, (judged.shown or {}).get("drift", [])))
    known: Panel[Decisions] = decisions.result()
    retrainings = list(known.shown.retrainings) if known.shown else []
    asked: Panel[list[airflow_state.Waiting]] | None = waiting.result() if waiting else None
    alerts: Panel[OpenAlerts] = open_alerts.result()
    partitions: Panel[list[Fresh]] = fresh.result()
    waits = [one.subject for one in (asked.shown if asked else None) or ()]
    others = without_approvals(alerts.shown.open if alerts.shown else [], waits)
    given = StateInput(
        judged=judged.shown or {},
        champion=champion.shown,
        retraining=ledger.open_retraining(retrainings),
        waits=waits,
        alerts=[(alert.severity, alert.title) for alert in others],
        stale=[one for one in partitions.shown or () if one.stale],
    )
    return Page(
        app=app,
        state=state_of(given),
        models=found.result(),
        trend=trend.result(),
        why=details.result(),
        decisions=known,
        open_alerts=alerts,
        alerts=others,
        runs=runs.result() if runs else None,
        waiting=asked,
        training=training.result(),
        pods=pods.result(),
        spent=spending.spent_of(
            app,
            summary.result().shown or Summary(),
            [one.outcome for one in retrainings if one.outcome],
            ledger.this_week(retrainings, now),
            now,
        ),
        fresh=partitions,
        reports=reports.result(),
    )


def _models(store: Store, records: Ledger, app: Application) -> Models:
    current = models.champion(store, records)
    other = models.candidate(store, current, records.gate_records())
    shadow = models.shadow(store, app, current, other, records)
    asked = shadow and app.feedback and app.feedback.review
    preferred = panel(lambda: preference_of(choices_of(store, shadow[0]))) if shadow and asked else None
    return Models(current, other, shadow, preferred, models.watch(store, app, records))


def _trend(store: Store, records: Ledger, app: Application) -> Trend:
    index = records.index()
    judged, unreadable = intervals.last_judged(index, TREND, store.zone)
    every = [interval for own in judged.values() for interval in own]
    found = read_each(store.place, lambda interval: panel(lambda: intervals.largest_effect(store, interval)), every)
    unreadable += [one.trouble for one in found if one.trouble]
    answered = intervals.answered_intervals(store, index, TREND)
    effects = {interval: one.shown for interval, one in zip(every, found, strict=True)}
    own = [name for name, scorer in app.scorers.items() if (scorer.kind, scorer.group) == ("share", "quality")]
    first = answered[0].interval if answered else ""
    challenged = intervals.challenged_intervals(store, records.splits(), first)
    return Trend(judged, effects, answered, challenged, intervals.quality_shown(answered, own), unreadable)


def _decisions(store: Store, records: Ledger, now: datetime) -> Decisions:
    retrainings, asked = ledger.retrainings(records), ledger.requests(records)
    told, split = ledger.story(store, records, retrainings, asked), ledger.split_now(records)
    beside = intervals.newest_of_challenger(records.index(), split[0].version, store.zone) if split else None
    return Decisions(told, retrainings, asked, ledger.snoozed(records, now), split, beside)


def _open_alerts(storage: str, app: Application, records: Ledger, now: datetime) -> OpenAlerts:
    outbox = Outbox(storage, app.name)
    holding = outbox.open()
    responses = records.responses(alert.condition for alert in holding)
    counting = {condition: response for condition, response in responses.items() if response.holds(now)}
    return OpenAlerts(holding, counting, outbox.waiting(app.alerts))


def _reports(store: Store) -> Reports:
    return Reports(store.newest("data_docs"), _replay(store))


def _replay(store: Store) -> Replay | None:
    newest = store.newest("replay_reports")
    manifest = store.manifest("replay_reports", *newest) if newest else None
    if manifest is None:
        return None
    try:
        return Replay(newest, Verdict(manifest.facts["verdict"]), list(map(str, manifest.facts["reasons"])))
    except (LookupError, TypeError, ValueError) as error:
        place = store.address("replay_reports", *newest)
        raise BadInput(f"{place}: its manifest names no verdict with reasons") from error
