"""Whether to retrain: a pure function of what the intervals said, of earlier retrainings, and of the application's policy.

Nothing here reads storage or a clock: :mod:`nightshift.ledger.orders` gathers the history and keeps the decision.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import groupby

from pydantic import BaseModel, ConfigDict

from nightshift.ledger.budget import Bound
from nightshift.ledger.records import Action, Claim, Code, Decision, MonitoredInterval, Order, Outcome, Snooze
from nightshift.settings.policies import Retraining
from nightshift.verdict import Verdict

WEEK = timedelta(days=7)
NAMED = 4  # intervals or metrics in one sentence
# What says something about an interval. INSUFFICIENT_DATA and ERROR say nothing: neither that it failed nor that it was quiet.
JUDGED = frozenset({Verdict.PASS, Verdict.WARN, Verdict.FAIL})


class History(BaseModel):
    """The input of :func:`decide`; orders, claims and outcomes are given by number."""

    model_config = ConfigDict(frozen=True)

    now: datetime
    champion: str  # digest of its model
    released: datetime | None = None  # when it became the champion; None: not recorded
    nights: list[MonitoredInterval] = []
    orders: dict[int, Order] = {}
    claims: dict[int, Claim] = {}
    outcomes: dict[int, Outcome] = {}
    snooze: Snooze | None = None
    new_examples: int = 0  # to train on, that the champion's snapshot does not have
    budget: list[Bound] = []  # the bounds that are set
    split: str = ""  # description of the running split; "": none
    hosted: str = ""  # endpoint of the application's model; "": it is trained here


def decide(history: History, policy: Retraining) -> Decision:
    """Decide about a retraining: `tripped` when enough intervals failed and nothing speaks against it.

    Only intervals judged against the current champion since its release count. Of those with a verdict the newest
    `of_nights` are looked at; one interval with several monitors has failed when one of them says so. Then every bound
    must allow it: no split, no open order, no snooze, the cooldown since the last registered model, runs and hours of training in
    seven days and the budget (what the last training took must still fit), and new examples. All bounds that forbid it
    are named; the first gives the code.
    """
    counted = _counted(history, policy)
    judged = [one for one in counted if one.verdict in JUDGED][: policy.of_nights]
    failed = [one for one in judged if one.verdict is Verdict.FAIL]
    numbers: dict[str, float] = {
        "nights": len(counted),
        "nights_with_verdict": len(judged),
        "nights_failed": len(failed),
        "nights_to_fail": policy.nights,
        **_spent(history),
        "new_examples": history.new_examples,
        **{f"{bound.setting}_used": bound.used for bound in history.budget},
        **{f"{bound.setting}_expected": bound.forecast for bound in history.budget},
    }

    def decision(action: Action, code: Code, reason: str) -> Decision:
        return Decision(
            action=action,
            code=code,
            reason=reason,
            numbers=numbers,
            nights=[one.interval for one in judged],
            reports=[report for one in failed for report in one.reports],
            model_digest=history.champion,
            decided=history.now,
        )

    silent = [one for one in counted[: policy.nights] if one.verdict not in JUDGED]
    if not counted:
        return decision("none", "too_few_nights", _no_interval(history))
    if not judged or len(silent) == policy.nights:
        said = _shortened((f"{one.interval} {one.verdict}" for one in silent), ", ")
        return decision("none", "no_data", f"the newest intervals have no verdict: {said}")
    share = f"{len(failed)} of the newest {len(judged)} intervals with a verdict failed"
    if not failed:
        return decision("none", "quiet", f"{share} ({_shortened((one.interval for one in judged), ', ')})")
    trip = f"{share}, {policy.nights} of {policy.of_nights} lead to a retraining: {_shortened(map(str, failed), '; ')}"
    if failed[0].reasons:
        trip += f" ({failed[0].reasons[0]})"
    if len(failed) < policy.nights:
        return decision("none", "too_few_nights", trip)
    against = _against(history, policy, numbers)
    if against:
        return decision("none", against[0][0], f"{'; '.join(text for _, text in against)}. Otherwise: {trip}")
    return decision("retrain", "tripped", f"{trip}. {history.new_examples:,} new training examples")


class _Judged(BaseModel):
    """What all monitors that count said about one interval."""

    interval: str
    verdict: Verdict
    failing: list[str]
    kinds: list[str]
    reasons: list[str]
    reports: list[str]

    def __str__(self) -> str:
        kinds = f" by {' and '.join(self.kinds)}" if self.kinds else ""
        return f"{self.interval}{kinds} in {_shortened(self.failing, ', ')}" if self.failing else self.interval


def _counted(history: History, policy: Retraining) -> list[_Judged]:
    """The intervals that count, newest first."""
    monitored = [
        one
        for one in history.nights
        if one.monitor in policy.on
        and one.model_digest == history.champion
        and (history.released is None or one.created >= history.released)
    ]
    monitored.sort(key=lambda one: (one.interval, one.monitor), reverse=True)
    return [_together(interval, list(group)) for interval, group in groupby(monitored, key=lambda one: one.interval)]


def _together(interval: str, monitored: list[MonitoredInterval]) -> _Judged:
    """One failing monitor fails the interval; one without a verdict does not silence the other."""
    verdicts = [one.verdict for one in monitored]
    told = [verdict for verdict in verdicts if verdict in JUDGED] or verdicts
    failed = [one for one in monitored if one.verdict is Verdict.FAIL]
    return _Judged(
        interval=interval,
        verdict=Verdict.FAIL if failed else told[0],
        failing=[metric for one in failed for metric in one.failing],
        kinds=list(dict.fromkeys(kind for one in failed for kind in one.kinds)),
        reasons=[reason for one in failed for reason in one.reasons],
        reports=[one.report for one in failed],
    )


def _shortened(texts: Iterable[str], between: str) -> str:
    """The first few texts and the number of further ones, so that a reason stays short."""
    every = list(texts)
    more = len(every) - NAMED
    return between.join(every[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _no_interval(history: History) -> str:
    since = f" since its release ({history.released:%Y-%m-%d %H:%M} UTC)" if history.released else ""
    others = sum(one.model_digest != history.champion for one in history.nights)
    also = f"; {others} intervals were judged against other models and do not count" if others else ""
    return f"no interval was judged against the champion (model {history.champion[:12]}){since}{also}"


def _spent(history: History) -> dict[str, float]:
    """What retrainings cost in the last seven days, and how long ago the last one was registered (days)."""
    ended = history.outcomes.values()
    # An order that nobody claimed trained nothing.
    started = [claim for claim in history.claims.values() if claim.run_id and history.now - claim.claimed < WEEK]
    registered = sorted((outcome for outcome in ended if outcome.result == "registered"), key=lambda o: o.ended)
    spent = {
        "runs_this_week": float(len(started)),
        "hours_this_week": _hours(history, WEEK),
        "hours_of_the_last": registered[-1].hours if registered else 0.0,
    }
    if registered:
        spent["days_since_the_last"] = (history.now - registered[-1].ended) / timedelta(days=1)
    return spent


def _against(history: History, policy: Retraining, numbers: dict[str, float]) -> list[tuple[Code, str]]:
    """Every bound that forbids a retraining, with its sentence; the first one gives the decision its code."""
    against: list[tuple[Code, str]] = []
    if history.hosted:
        against.append(
            ("hosted", f"the model is at {history.hosted}, where nothing is trained: look at the intervals' reports")
        )
    if history.split:
        against.append(("split", history.split))
    if unended := sorted(set(history.orders) - set(history.outcomes)):
        order = history.orders[unended[0]]
        claim = history.claims.get(order.number)
        doing = f"being trained by {claim.run_id}" if claim and claim.run_id else "waiting for finetune"
        against.append(("open", f"retraining {order.number} of {order.created:%Y-%m-%d %H:%M} UTC is {doing}"))
    if history.snooze and history.now < history.snooze.until:
        until = f"{history.snooze.until:%Y-%m-%d %H:%M} UTC"
        against.append(("snoozed", f"{history.snooze.by} snoozed it until {until}: {history.snooze.reason}"))
    days = numbers.get("days_since_the_last")
    if days is not None and days < policy.cooldown_days:
        text = f"the last retraining was registered {days:.1f} days ago, the cooldown is {policy.cooldown_days:g} days"
        against.append(("cooldown", text))
    if numbers["runs_this_week"] >= policy.max_a_week:
        text = f"{numbers['runs_this_week']:.0f} retrainings began in the last seven days, the limit is {policy.max_a_week}"
        against.append(("weekly_runs", text))
    if used_up := _hours_against(history, policy, numbers["hours_of_the_last"]):
        against.append(("weekly_hours", used_up))
    against += [("budget", bound.against) for bound in history.budget if bound.against]
    refused = _refused_in_a_row(history)
    if refused >= policy.max_refused:
        text = (
            f"the gate refused the last {refused} candidates, and another is unlikely to pass: check their evaluations, "
            "then force one in the DAG retraining"
        )
        against.append(("refused", text))
    if history.new_examples < policy.min_new_examples:
        text = f"{history.new_examples:,} training examples that the champion has not seen"
        against.append(("too_few_new_examples", f"{text}, at least {policy.min_new_examples:,} are required"))
    return against


def _hours_against(history: History, policy: Retraining, last: float) -> str | None:
    """Return why the hours of training forbid a retraining; it is expected to take as many as the last one.

    One that takes more than the hours of a week uses those of several weeks: so it can happen, and the average over
    months stays within the policy.
    """
    a_week = policy.max_hours_a_week
    period = WEEK * max(1.0, last / a_week if a_week else 1.0)
    used, budget, days = _hours(history, period), a_week * (period / WEEK), period / timedelta(days=1)
    # A tolerance for rounding: an unused budget as large as the last training must allow another.
    if budget > used and (used == 0 or used + last <= budget):
        return None
    return (
        f"{used:.2f} of {budget:g} hours of training in {days:.3g} days are used ({a_week:g} a week), the last retraining "
        f"took {last:.2f}"
    )


def _hours(history: History, period: timedelta) -> float:
    """Hours of the trainings that ended in a period up to now."""
    return sum(outcome.hours for outcome in history.outcomes.values() if history.now - outcome.ended < period)


def _refused_in_a_row(history: History) -> int:
    """How many candidates the gate refused since one passed, became champion, or was forced by a person."""
    count = 0
    for number in sorted(history.outcomes, reverse=True):
        outcome, order = history.outcomes[number], history.orders.get(number)
        if outcome.verdict is None:
            continue
        if outcome.verdict is Verdict.PASS or (history.released and outcome.ended < history.released):
            break
        if order and order.decision.code == "forced":
            break
        count += 1
    return count
