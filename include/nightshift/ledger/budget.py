"""The budget of an application: pure functions of its limits, its spending and its last retraining."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict

from nightshift.ledger.records import Outcome
from nightshift.settings.people import Budget

WEEK_DAYS, MONTH_DAYS = 7, 30


class Spent(BaseModel):
    """Sums over some days.

    :param pod_cost: of pods, by the price of their compute profile; `endpoint_cost`, of the answers to intervals, evaluations
        and bias probes, by the price of the endpoint; `storage_cost`, by the budget's price: all in one currency.
    :param prompt_tokens: of the intervals' prompts and, with `response_tokens`, of their responses, whichever engine answered.
    """

    model_config = ConfigDict(frozen=True)

    pod_hours: float = 0.0
    gpu_hours: float = 0.0
    pod_cost: float = 0.0
    endpoint_cost: float = 0.0
    storage_cost: float = 0.0
    prompt_tokens: int = 0
    response_tokens: int = 0

    @property
    def cost(self) -> float:
        """The total cost."""
        return self.pod_cost + self.endpoint_cost + self.storage_cost


class Forecast(BaseModel):
    """Expected use of the next retraining: that of the last one with a registered model."""

    model_config = ConfigDict(frozen=True)

    gpu_hours: float = 0.0
    cost: float = 0.0


class Bound(BaseModel):
    """One bound of a budget.

    :param setting: its key in the application's file, below `budget`.
    :param forecast: of the next retraining.
    """

    model_config = ConfigDict(frozen=True)

    setting: str
    used: float
    most: float
    forecast: float = 0.0

    @property
    def share(self) -> float:
        """The used share of the bound, 1 for all of it."""
        return self.used / self.most

    @property
    def against(self) -> str:
        """Why the bound forbids a retraining; "" if it allows one."""
        if self.used < self.most and self.used + self.forecast <= self.most:
            return ""
        then = f", the next retraining is expected to use {self.forecast:.2f}" if self.forecast else ""
        return f"{self.used:.2f} of {self.most:g} are used{then} (budget.{self.setting})"


def forecast(outcomes: Iterable[Outcome]) -> Forecast:
    """Return the expected use of the next retraining; zeros if no retraining was accounted for yet."""
    known = [one for one in outcomes if one.result == "registered" and one.gpu_hours is not None]
    last = max(known, key=lambda one: one.ended, default=None)
    return Forecast(gpu_hours=last.gpu_hours or 0.0, cost=last.cost or 0.0) if last else Forecast()


def bounds(budget: Budget, spent: Mapping[int, Spent], expected: Forecast) -> list[Bound]:
    """Return the configured bounds, with the use of each.

    :param spent: by number of days: 7 and 30.
    """
    week, month = spent[WEEK_DAYS], spent[MONTH_DAYS]
    every = (
        ("gpu_hours_a_week", week.gpu_hours, budget.gpu_hours_a_week, expected.gpu_hours),
        ("cost_a_week", week.cost, budget.cost_a_week, expected.cost),
        ("gpu_hours_a_month", month.gpu_hours, budget.gpu_hours_a_month, expected.gpu_hours),
        ("cost_a_month", month.cost, budget.cost_a_month, expected.cost),
    )
    return [
        Bound(setting=setting, used=used, most=most, forecast=next_one)
        for setting, used, most, next_one in every
        if most is not None
    ]
