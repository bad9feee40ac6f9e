"""What the ledger keeps: decisions about retrainings, their orders and ends, splits, releases, and what people said."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from nightshift.settings.split import Arm
from nightshift.settings.split import Split as SplitSettings
from nightshift.verdict import Verdict

Monitor = Literal["drift", "bias"]
Action = Literal["retrain", "none"]
Code = Literal[
    "quiet", "too_few_nights", "no_data", "open", "snoozed", "cooldown", "weekly_runs", "weekly_hours",
    "budget", "refused", "too_few_new_examples", "hosted", "split", "tripped", "forced",
]  # fmt: skip


class Record(BaseModel):
    """What the ledger keeps as JSON; a field that a later version adds does not stop this one from reading."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class MonitoredInterval(Record):
    """What one monitor said about one interval: the facts of its partition, and where the report is."""

    monitor: Monitor
    interval: str  # key of the data interval
    verdict: Verdict
    model_digest: str  # of the champion that the interval was judged against
    model_version: str = ""
    rows: int = 0
    failing: list[str] = []  # metrics
    kinds: list[str] = []  # of drift, as `concept drift`; records of before have none
    worst: str | None = None  # metric
    worst_segment: str | None = None
    reasons: list[str] = []
    interactions: str = ""  # URI
    report: str  # URI of the partition with the report
    report_digest: str  # of its manifest
    files: list[str] = []  # of that partition
    run_url: str | None = None  # in MLflow
    created: datetime  # when it was judged

    @property
    def of_challenger(self) -> bool:
        """Whether a challenger answered it, beside the champion."""
        return of_challenger(self.interactions)


def of_challenger(interactions: str) -> bool:
    """Return whether an interval's interactions, by their URI, are those of a challenger: in `arms/<split>/<interval>`."""
    parts = interactions.rstrip("/").split("/")
    return parts[-3:-2] == ["arms"] and parts[-2].isdigit()


class Decision(Record):
    """Retrain or not, why, and the numbers that it was decided by. `id` and `order` are the ledger's."""

    id: str = ""
    action: Action
    code: Code
    reason: str
    numbers: dict[str, float] = {}
    nights: list[str] = []  # interval keys that were looked at, newest first
    reports: list[str] = []  # URIs of the reports of those that failed
    order: int | None = None  # the retraining that followed
    model_digest: str = ""  # of the champion
    by: str = "policy"  # or the person who forced it
    decided: datetime


class Order(Record):
    """A retraining that is to happen. It holds its decision, so that it is found whatever was written after it."""

    number: int
    decision: Decision
    created: datetime


class Claim(Record):
    """Which DAG run trains for an order. Without a run: the order waited too long and nobody may train for it."""

    number: int
    dag_id: str = ""
    run_id: str = ""
    claimed: datetime


class Outcome(Record):
    """How an order ended."""

    number: int
    result: Literal["registered", "failed", "cancelled", "lost"]
    explanation: str
    run_id: str = ""
    model: str | None = None  # URI
    model_version: str | None = None
    evaluation: str | None = None  # URI
    verdict: Verdict | None = None  # of the gate
    hours: float = 0.0  # of training, over all processes
    gpu_hours: float | None = None  # of all pods of its run; None: none was accounted for
    cost: float | None = None  # of the same, by the price of their compute profiles
    wish: str = ""  # the run of the DAG retraining in which a person gave it up
    ended: datetime


class Snooze(Record):
    """Until when the policy orders no retraining. A newer one replaces it, also with a time that is past."""

    id: str
    until: datetime
    reason: str
    by: str
    created: datetime


class AlertResponse(Record):
    """That a person answers for a condition: until when people are not told of it again, and why. The newest counts.

    :param condition: the incident key that the alert and the application's page name.
    :param action: `acknowledge` keeps what is no news of it from people, `silence` all of it; `end` ends either.
    """

    id: str = ""  # the ledger's
    condition: str
    action: Literal["acknowledge", "silence", "end"]
    until: AwareDatetime
    reason: str
    by: str
    created: AwareDatetime

    @property
    def said(self) -> str:
        """Who did it, until when and why, for a person."""
        did = {"acknowledge": "acknowledged", "silence": "silenced", "end": "ended the silence of"}[self.action]
        until = "" if self.action == "end" else f" until {self.until:%Y-%m-%d %H:%M} UTC"
        return f"{self.by} {did} it{until}: {self.reason}"

    def holds(self, now: datetime) -> bool:
        """Whether people are still not told."""
        return self.action != "end" and now < self.until


class Review(Record):
    """What one person said of one answer, or of two, on the review page, once. It is never changed.

    :param key: of the answer in the sample of its interval, or of the pair.
    :param digest: of the prompt's conversation, by which an erasure finds it.
    :param good: of two answers: whether one of them is.
    :param correction: what the answer should have been; "": nothing.
    :param shadow: name of the one that has both answers; "", as what follows it: there was one answer.
    """

    interval: str  # key of the interval that was answered
    key: str
    digest: str
    chosen: str  # the stratum
    version: str  # of the model that answered
    good: bool
    correction: str = ""
    reason: str = ""
    shadow: str = ""
    candidate: str = ""  # its version
    better: Literal["", "champion", "candidate", "same", "neither"] = ""
    first: Literal["", "champion", "candidate"] = ""  # as they were shown
    by: str
    at: AwareDatetime


class Release(Record):
    """That a model becomes the champion, as one after the other; why is in the record of its gate."""

    number: int = 0
    ahead: bool = False  # of the alias; an earlier version wrote it when the alias had moved
    model_digest: str
    model: str = ""  # URI
    version: str = ""
    evaluation: str | None = None  # URI
    released: datetime


class Request(Record):
    """A release that is put to people; `id` begins with the time. Its answer is a record of its own."""

    id: str
    version: str
    model_digest: str
    evaluation_digest: str
    champion_digest: str | None  # who is in use
    after: int | None = None  # number of the newest release then; None: an earlier version asked
    verdict: Verdict  # of the gate
    subject: str
    dag_id: str
    run_id: str
    task_id: str
    approvers: list[str] = []  # names; empty: everybody whose role may answer
    asked_by: str = ""  # who started the run by hand
    asked: datetime
    until: datetime  # no answer until then is a no


class Answer(Record):
    """What became of a request. It is never changed: whoever wants another answer asks again."""

    id: str  # of the request
    answer: Literal["approved", "rejected", "timeout", "withdrawn"]
    by: str = ""  # name of the person
    reason: str = ""
    answered: datetime


DECIDING = ("gate", "watch")  # what decides where no person does


class GateRecord(Record):
    """What the gate said about one candidate, or a person after it, with the numbers that it saw. `id` is the ledger's."""

    id: str = ""
    application: str
    version: str
    model_digest: str
    champion_digest: str | None  # who was in use then
    evaluation: str
    evaluation_digest: str
    policy: str  # digest of the gate that decided
    verdict: Verdict
    reasons: list[str]
    numbers: dict[str, float]
    released: bool
    by: str  # one of DECIDING, or what the person who released it gave as a reason
    person: str | None = None  # who released it, where a person did
    request: str | None = None  # where people were asked: the request of the ledger
    run_id: str = ""  # in which a person released it by a reason
    after: int | None = None  # number of the newest release then; None: an earlier version decided
    decided: datetime


class Erasure(Record):
    """That rows are to be erased. Written before the first is touched; jobs wait from then on until there is an Erased."""

    number: int
    hashes: dict[str, str]  # `subject`, `id` or `digest` -> its keyed hash
    reason: str
    by: str
    created: datetime


class Erased(Record):
    """That all rows of an erasure are gone, and of what.

    :param rows: of examples and traffic, quarantined ones included.
    :param rewritten: kind -> how many partitions are without some rows, or without a page that showed one.
    :param deleted: kind -> how many folders are gone that can be made again.
    :param versions: of the application's model that were trained on a row, or have one in their prompt.
    """

    number: int
    rows: int
    rewritten: dict[str, int]
    deleted: dict[str, int]
    versions: list[str]
    by: str
    ended: datetime


class Split(Record):
    """That a released candidate, the challenger, answers a growing share of the traffic beside the champion.

    :param decision: id of the record of the gate, or of a person, that it follows from.
    :param after: number of the newest release then.
    :param settings: those of its start; an edit of the file changes the next split.
    """

    number: int
    decision: str
    after: int
    settings: SplitSettings
    key: str  # of the assignment
    version: str  # of the challenger
    model_digest: str
    champion: str  # version
    champion_digest: str
    started: datetime

    def arm(self, share: float, *, challenger: bool) -> Arm:
        """Return which rows of an interval one of both answers."""
        return Arm(split=self.number, challenger=challenger, key=self.key, unit=self.settings.unit, share=share)


class IntervalArms(Record):
    """Which versions answer an interval, fixed before its first row is answered: a rerun gives the same."""

    interval: str  # key
    split: int
    share: float  # of the challenger


class Arms(Record):
    """What both arms of a split are known by so far, as the evidence that is published for a look says.

    :param evidence: number of that look.
    :param metric: by which the answers are compared; None: too few of both have a score.
    :param differences: challenger minus champion by measure: value, lower and upper bound. Empty: not compared.
    :param known: rows that the challenger had answered by each comparison.
    """

    evidence: int
    units: dict[str, int]  # by arm
    means: dict[str, dict[str, float]]  # by measure and arm
    metric: str | None
    differences: dict[str, tuple[float, float, float]]
    comparisons: int
    known: list[float] = []


class SplitLook(Record):
    """What follows for a split from one interval. There is one for each interval that was split, in order of their ends.

    :param step: place, from 0, of the share at which the interval was answered.
    :param evidence: number of the look whose evidence holds all so far; 0: there is none.
    :param comparisons: of both arms so far.
    """

    split: int
    number: int
    interval: str  # key
    step: int
    action: Literal["hold", "step", "pass", "stop"]
    reason: str
    evidence: int = 0
    comparisons: int = 0
    waited: int  # intervals in this step
    numbers: dict[str, float] = {}
    decided: datetime


class SplitEnd(Record):
    """How a split ended. `passed`: the release of its challenger follows."""

    number: int
    result: Literal["passed", "stopped", "withdrawn"]
    explanation: str
    by: str = "policy"  # or the person who stopped it
    run_id: str = ""  # of the rollback
    ended: datetime
