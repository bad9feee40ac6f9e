"""What an application used in the last days, and its limits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from nightshift.dashboard.stored import Store
from nightshift.errors import BadInput
from nightshift.ledger.budget import WEEK_DAYS, bounds, forecast
from nightshift.ledger.pod_accounts import PodUsage
from nightshift.ledger.policy import WEEK
from nightshift.ledger.records import Outcome
from nightshift.ledger.spending import Summary, spent_by_days
from nightshift.settings.application import Application


@dataclass(frozen=True)
class Spent:
    """The use of one resource, and its limit if there is one."""

    what: str
    used: float
    bound: float | None

    @property
    def share(self) -> float | None:
        """The used share of the limit, 1 for all of it."""
        return self.used / self.bound if self.bound else None


def week_of_pods(store: Store, now: datetime) -> list[PodUsage]:
    """Return the accounts of the pods that ended in the last seven days, without unreadable ones."""
    today = now.astimezone(UTC).date()
    days = [(today - timedelta(days=back)).isoformat() for back in range(8)]
    found = [account(store, day, name) for day in days for name in store.names("usage", day) if name.endswith(".json")]
    return [pod for pod in found if pod and now - pod.ended < WEEK]


def spent_of(
    app: Application, summary: Summary, outcomes: Iterable[Outcome], week: tuple[int, float], now: datetime
) -> list[Spent]:
    """Return the use of the application's budget and of its limits on retraining.

    :param week: number of retrainings and hours of training in seven days.
    """
    policy, spent, (trainings, hours) = app.retraining, spent_by_days(summary, app.budget, now), week
    month = [
        Spent(f"{'GPU-hours' if bound.setting.startswith('gpu') else 'cost'} in 30 days", bound.used, bound.most)
        for bound in bounds(app.budget, spent, forecast(outcomes))
        if bound.setting.endswith("_a_month")
    ]
    return [
        Spent("GPU-hours", spent[WEEK_DAYS].gpu_hours, app.budget.gpu_hours_a_week),
        Spent("cost", spent[WEEK_DAYS].cost, app.budget.cost_a_week),
        *month,
        Spent("retrainings", float(trainings), float(policy.max_a_week)),
        Spent("training hours", hours, policy.max_hours_a_week),
    ]


@lru_cache(maxsize=20_000)
def account(store: Store, day: str, name: str) -> PodUsage | None:
    """Return the account of a pod, or None if it cannot be read."""
    try:
        return store.model(PodUsage, "usage", day, name)
    except BadInput:
        return None
