"""Splits of the traffic between a champion and its challenger, one at a time: how one starts, goes on and ends.

Every record is created once. A split runs until it has an end; after the result `passed` the challenger is released.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from nightshift.ledger.records import Arms, GateRecord, Split, SplitEnd, SplitLook
from nightshift.ledger.store import Ledger
from nightshift.settings.metrics import label_of
from nightshift.settings.split import Split as SplitSettings
from nightshift.storage.manifest import digest_of


def running(ledger: Ledger) -> Split | None:
    """Return the split without an end, or whose challenger passed and was not released yet."""
    newest = next(reversed(ledger.splits()), None)
    end = ledger.split_end(newest.number) if newest else None
    if newest is None or end is None:
        return newest
    return newest if end.result == "passed" and newest.after == len(ledger.releases()) else None


def ended(ledger: Ledger, model_digest: str, champion_digest: str | None, after: int) -> tuple[Split, SplitEnd] | None:
    """Return the newest split if it has ended, is between these models, and started after this release."""
    newest = next(reversed(ledger.splits()), None)
    end = ledger.split_end(newest.number) if newest else None
    if newest is None or end is None:
        return None
    same = (newest.model_digest, newest.champion_digest, newest.after) == (model_digest, champion_digest, after)
    return (newest, end) if same else None


def begun(
    ledger: Ledger, settings: SplitSettings, decision: GateRecord, champion: str, now: datetime
) -> tuple[Split, SplitEnd | None] | None:
    """Return the split that follows from a decision, and its end; start the split if there is none.

    A withdrawn split may start again. None: another process started a split at the same time.

    :param champion: version of the model that answers all of the traffic now.
    """
    known = ledger.splits()
    mine = [split for split in known if split.decision == decision.id]
    if mine:
        end = ledger.split_end(mine[-1].number)
        if end is None or end.result != "withdrawn":
            return mine[-1], end
    number = known[-1].number + 1 if known else 1
    split = Split(
        number=number,
        decision=decision.id,
        after=len(ledger.releases()),
        settings=settings,
        key=digest_of([decision.application, number, decision.model_digest])[:32],
        version=decision.version,
        model_digest=decision.model_digest,
        champion=champion,
        champion_digest=decision.champion_digest or "",
        started=now,
    )
    return (split, None) if ledger.create(split) else None


def end_split(ledger: Ledger, end: SplitEnd) -> SplitEnd:
    """Record how a split ended, and return the recorded end: the first one stays."""
    ledger.create(end)
    return ledger.split_end(end.number) or end


def share_of(ledger: Ledger, split: Split) -> float:
    """Return the share of the units that the challenger answers from the next interval on; 0 after a stop.

    A challenger that passed keeps its last share until it is released, so that no user switches back in between.
    """
    looks, end = ledger.looks(split.number), ledger.split_end(split.number)
    if (end and end.result != "passed") or (looks and looks[-1].action == "stop"):
        return 0.0
    step = step_of(looks)
    return split.settings.shares[-1 if step is None else step]


def step_of(looks: list[SplitLook]) -> int | None:
    """Return the index of the current share after these looks; None: they ended the split."""
    newest = looks[-1] if looks else None
    if newest is None:
        return 0
    return None if newest.action in {"pass", "stop"} else newest.step + (newest.action == "step")


def next_look(split: Split, looks: list[SplitLook], interval: str, found: Arms | None, now: datetime) -> SplitLook:
    """Decide about a running split after one more interval: a pure function.

    A metric whose confidence interval lies wholly below minus the margin stops the split. A step is passed when the
    confidence intervals of the decisive metric and of all guard rails lie wholly above minus the margin: the challenger is
    then shown to be worse by less than it. Otherwise the share is held.

    :param found: the evidence so far; None: nothing new.
    """
    step, last = step_of(looks), looks[-1] if looks else None
    assert step is not None  # noqa: S101  (it runs)
    settings, same = split.settings, last is not None and last.step == step
    waited = (last.waited if last and same else 0) + 1
    margin, share = settings.margin, f"{settings.shares[step]:.0%}"
    differences: Mapping[str, tuple[float, float, float]] = found.differences if found else {}
    worse = [name for name, (_, _, high) in differences.items() if high < -margin]
    no_worse = [name for name, (_, low, _) in differences.items() if low > -margin]
    action: Any = "hold"
    if worse:
        action, what = "stop", f"is worse by more than {margin:.1%}"
    elif found and found.metric and {found.metric, *settings.rails} <= set(no_worse):
        action = "pass" if step + 1 == len(settings.shares) else "step"
        what = f"is worse by less than {margin:.1%}, or better"
    elif differences and found and found.metric:
        what = f"is neither shown to be worse by less than {margin:.1%} nor by more"
    elif differences:
        what = "cannot be compared: too few answers of both have a known answer or a judge's score"
    else:
        what = f"has too few answers: at least {settings.min_units} units of both are needed"
    shown = ", ".join(
        f"{label_of(name)} {value:+.1%} [{low:+.1%}, {high:+.1%}]" for name, (value, low, high) in differences.items()
    )
    return SplitLook(
        split=split.number,
        number=last.number + 1 if last else 1,
        interval=interval,
        step=step,
        action=action,
        reason=f"version {split.version} at {share} {what}" + (f" ({shown})" if shown else ""),
        evidence=found.evidence if found else last.evidence if last else 0,
        comparisons=found.comparisons if found else last.comparisons if last else 0,
        waited=waited,
        numbers=_numbers(found) if found else {},
        decided=now,
    )


def sentence(split: Split, share: float) -> str:
    """Describe the running split in a sentence."""
    return (
        f"version {split.version} answers {share:.0%} of the traffic beside version {split.champion}, since "
        f"{split.started:%Y-%m-%d %H:%M} UTC (split {split.number})"
    )


def _numbers(found: Arms) -> dict[str, float]:
    numbers = {f"units of the {arm}": float(count) for arm, count in found.units.items()}
    for measure, arms in found.means.items():
        numbers |= {f"{label_of(measure)} of the {arm}": mean for arm, mean in arms.items()}
    for measure, ends in found.differences.items():
        of = zip(("", ", low", ", high"), ends, strict=True)
        numbers |= {f"difference in {label_of(measure)}{which}": value for which, value in of}
    return numbers
