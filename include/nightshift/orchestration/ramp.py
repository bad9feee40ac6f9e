"""The tasks of a split: `assign` fixes which versions answer an interval, `ramp` then decides how the split goes on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowSkipException

from nightshift.errors import BadEnvironment, BadInput
from nightshift.orchestration.ledger_task import LEDGER_TASK_ARGUMENTS, ledger_task, mlflow, notify_of_decision
from nightshift.orchestration.promote import show_split, withdraw_split
from nightshift.registry.versions import CHAMPION
from nightshift.settings.application import Application
from nightshift.settings.interval import Interval

if TYPE_CHECKING:
    from nightshift.ledger.records import Arms, IntervalArms, Split, SplitLook
    from nightshift.ledger.store import Ledger
    from nightshift.registry.rest import Mlflow

log = logging.getLogger(__name__)


@task(**LEDGER_TASK_ARGUMENTS)
def assign(application: str, prompts: Mapping[str, Any], **context: Any) -> dict[str, Any]:
    """Fix which versions answer an interval, unless that was done before.

    :param prompts: the result of the task that made the interval's prompts.
    :return: `interval`; `champion` and `challenger`, the versions; `champion_rows` and `challenger_rows`, as
        :class:`nightshift.settings.split.Arm`.
    :raises AirflowSkipException: no split runs, or the interval was answered before: the champion answers it alone.
    """
    with ledger_task(application, context) as (app, ledger):
        interval = _interval(str(prompts["examples"]).rstrip("/").rpartition("/")[2])
        fixed = ledger.arms(interval) or _fixed(app, ledger, interval)
        if isinstance(fixed, str):
            context["ti"].xcom_push("return_value", {})
            raise AirflowSkipException(f"{fixed}: the champion answers alone")
        split = next(one for one in ledger.splits() if one.number == fixed.split)
        return {
            "interval": interval,
            "champion": split.champion,
            "champion_rows": split.arm(fixed.share, challenger=False).model_dump(),
            "challenger": split.version,
            "challenger_rows": split.arm(fixed.share, challenger=True).model_dump(),
        }


@task(**LEDGER_TASK_ARGUMENTS)
def ramp(application: str, assigned: Mapping[str, Any], **context: Any) -> dict[str, Any]:
    """Decide how a split goes on by the evidence in storage, and wake the release once it passed.

    :param assigned: the result of `assign`.
    :return: `action`, `reasons`, `version` of the challenger, its `share` from now on, `split`, `waited` of `intervals`.
    :raises AirflowSkipException: there is nothing to release; the text says how the split goes on.
    """
    from nightshift.ledger.splits import step_of

    with ledger_task(application, context) as (app, ledger), mlflow() as server:
        split, fixed = next(reversed(ledger.splits())), ledger.arms(_interval(assigned["interval"]))
        looks = ledger.looks(split.number)
        mine = fixed is not None and fixed.split == split.number and split.after == len(ledger.releases())
        decided = ledger.split_end(split.number) or step_of(looks) is None
        if fixed and mine and not decided and fixed.interval not in {look.interval for look in looks}:
            looks.append(_looked(ledger, split, looks, fixed.interval))
        if not mine or not looks:
            raise AirflowSkipException("the split of this interval is over")
        result = _followed(app, ledger, server, split, looks[-1])
        notify_of_decision(app, "ramp", result, context)
        if looks[-1].action != "pass":
            context["ti"].xcom_push("return_value", result)
            raise AirflowSkipException(f"{looks[-1].action}: {looks[-1].reason}")
        return result


def _interval(key: str) -> str:
    """What names an interval, and no other place: results of tasks can be changed by Airflow's API."""
    if Interval.of_key(key) is None:
        raise BadInput(f"{key!r} names no data interval")
    return key


def _fixed(app: Application, ledger: Ledger, interval: str) -> IntervalArms | str:
    """Assign an interval's arms by the running split and record them; or return why there are none."""
    from nightshift.ledger.records import IntervalArms
    from nightshift.ledger.splits import running, share_of
    from nightshift.storage.manifest import read_manifest

    split = running(ledger)
    if split is None:
        return "no split runs"
    share = share_of(ledger, split)
    if read_manifest(ledger.home / "interactions" / interval):
        return f"{interval} was answered before split {split.number}"
    with mlflow() as server:
        if not share:  # the task that decided to stop was killed before it ended the split
            _followed(app, ledger, server, split, ledger.looks(split.number)[-1])
            return f"version {split.version} was stopped"
        champion = server.with_alias(app.name, CHAMPION)
        if champion is None or champion.digest != split.champion_digest:
            why = f"version {split.champion} is no longer the champion"
            withdraw_split(app.name, ledger, server, split, why)
            return why
    fixed = IntervalArms(interval=interval, split=split.number, share=share)
    return fixed if ledger.create(fixed) else ledger.arms(interval) or fixed


def _looked(ledger: Ledger, split: Split, looks: list[SplitLook], interval: str) -> SplitLook:
    from nightshift.ledger.splits import next_look

    number = looks[-1].number + 1 if looks else 1
    look = next_look(split, looks, interval, _evidence(ledger, split.number, number), datetime.now(UTC))
    if not ledger.create(look):
        raise BadEnvironment(
            f"look {look.number} at split {split.number} was taken in this moment; the next try looks again"
        )
    return look


def _evidence(ledger: Ledger, split: int, number: int) -> Arms | None:
    """The evidence that the job `arms` published for a look. Airflow's API can change results of tasks, but not this."""
    from nightshift.ledger.records import Arms
    from nightshift.storage.manifest import read_manifest

    manifest = read_manifest(ledger.home / "evidence" / f"{split:04d}" / f"{number:04d}")
    return Arms.model_validate(manifest.facts["arms"]) if manifest else None


def _followed(app: Application, ledger: Ledger, server: Mlflow, split: Split, look: SplitLook) -> dict[str, Any]:
    """Carry out the newest look's decision; each step can be repeated after a kill."""
    from nightshift.ledger.records import SplitEnd
    from nightshift.ledger.splits import end_split, share_of

    if look.action in {"pass", "stop"}:
        result: Any = {"pass": "passed", "stop": "stopped"}[look.action]
        end_split(
            ledger, SplitEnd(number=split.number, result=result, explanation=look.reason, ended=datetime.now(UTC))
        )
    share = share_of(ledger, split)
    if look.action != "pass" and (version := server.version_of(app.name, split.version)):
        show_split(server, version, split, share)
    return {
        "action": look.action,
        "reasons": [look.reason],
        "version": split.version,
        "split": split.number,
        "share": share,
        "waited": look.waited,
        "intervals": split.settings.intervals,
    }
