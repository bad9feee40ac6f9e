"""The overview: a row for each application with its state, scores, verdicts, and what waits for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from upath import UPath

from nightshift.alerts.alert import Alert
from nightshift.alerts.outbox import Outbox
from nightshift.dashboard import airflow_state, intervals, ledger, models, spending
from nightshift.dashboard.application_files import ApplicationFile
from nightshift.dashboard.freshness import Fresh, freshness
from nightshift.dashboard.panels import panel
from nightshift.dashboard.state import State, StateInput, Word, state_of, without_approvals
from nightshift.dashboard.stored import Store
from nightshift.ledger.records import Monitor
from nightshift.ledger.spending import kept_summary, summary_now
from nightshift.ledger.store import Ledger
from nightshift.settings.application import Application
from nightshift.storage.files import read_each


@dataclass(frozen=True)
class Row:
    """The row of one application; only its state if its file is unreadable."""

    name: str
    state: State
    settings: Application | None = None
    champion: models.Model | None = None
    judged: Mapping[Monitor, Sequence[intervals.JudgedInterval]] = field(default_factory=dict)
    waits: Sequence[str] = ()
    alerts: Sequence[Alert] = ()
    undelivered: int = 0
    running: int | None = None  # None: the user may not see runs
    spent: Sequence[spending.Spent] = ()
    stale: Sequence[Fresh] = ()

    @property
    def order(self) -> tuple[int, str]:
        """Sort key: applications that need attention come first."""
        return list(Word).index(self.state.word), self.name


def rows(applications: list[ApplicationFile], storage: str, may_see_runs: Mapping[str, bool]) -> list[Row]:
    """Return a row for each application, those that need attention first."""
    names = [known.name for known in applications if may_see_runs[known.name]]
    running = airflow_state.running_by_application(names)
    waiting = airflow_state.waiting_for_people(names)

    def one(known: ApplicationFile) -> Row:
        seen = may_see_runs[known.name]
        return row(known, storage, running.get(known.name, 0) if seen else None, waiting.get(known.name, []))

    return sorted(read_each(UPath(storage), one, applications), key=lambda row: row.order)


def row(known: ApplicationFile, storage: str, running: int | None, waiting: Sequence[airflow_state.Waiting]) -> Row:
    """Return the row of one application; its errors appear in its own row only."""
    app = known.settings
    if app is None:
        return Row(known.name, State(Word.UNREADABLE, known.wrong))
    found = panel(lambda: _row(app, storage, running, waiting))
    return found.shown or Row(app.name, State(Word.UNREADABLE, found.trouble), app, running=running)


def _row(app: Application, storage: str, running: int | None, waiting: Sequence[airflow_state.Waiting]) -> Row:
    now, store, outbox = datetime.now(UTC), Store(storage, app.name, app.zone), Outbox(storage, app.name)
    records = Ledger(storage, app.name)
    index = records.index()
    judged, _ = intervals.last_judged(index, intervals.STRIP, app.zone)
    champion = models.champion(store, records)
    retrainings = ledger.retrainings(records, app.retraining.max_a_week + 2)
    waits = [one.subject for one in waiting]
    alerts = without_approvals(outbox.open(), waits)
    # The summary that housekeeping wrote some minutes ago is recent enough here.
    used = kept_summary(records.home) or summary_now(records, now)
    stale = [one for one in freshness(store, index, app, judged, champion.digest if champion else "", now) if one.stale]
    return Row(
        name=app.name,
        state=state_of(
            StateInput(
                judged=judged,
                champion=champion,
                retraining=ledger.open_retraining(retrainings),
                waits=waits,
                alerts=[(alert.severity, alert.title) for alert in alerts],
                stale=stale,
            )
        ),
        settings=app,
        champion=champion,
        judged=judged,
        waits=waits,
        alerts=alerts,
        undelivered=len(outbox.waiting(app.alerts)) if app.alerts.routes else 0,
        running=running,
        spent=spending.spent_of(app, used, index.outcomes.values(), ledger.this_week(retrainings, now), now),
        stale=stale,
    )
