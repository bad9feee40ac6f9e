"""The records of the ledger: decisions about retrainings, their orders and outcomes, splits, releases, and people's answers."""

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
    """A JSON record of the ledger; fields of later versions are ignored."""

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
    kinds: list[str] = []  # of drift, such as `concept drift`; empty in records of older versions
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
        """Whether a challenger answered it."""
        return of_challenger(self.interactions)


def of_challenger(interactions: str) -> bool:
    """Return whether an interval's interactions, by their URI, are those of a challenger: in `arms/<split>/<interval>`."""
    parts = interactions.rstrip("/").split("/")
    return parts[-3:-2] == ["arms"] and parts[-2].isdigit()


class Decision(Record):
    """Whether to retrain, why, and by which numbers. The ledger sets `id` and `order`."""

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
    """A retraining to be done. It contains its decision, which may not have been recorded separately."""

    number: int
    decision: Decision
    created: datetime


class Claim(Record):
    """Which DAG run trains for an order. Without a run: the order was given up and no run may train for it."""

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
    gpu_hours: float | None = None  # of all pods of its run; None: no pod has an account
    cost: float | None = None  # of the same, by the price of their compute profiles
    wish: str = ""  # the run of the DAG retraining in which a person gave it up
    ended: datetime


class Snooze(Record):
    """Until when the policy orders no retraining. A newer one replaces it, even with a time in the past."""

    id: str
    until: datetime
    reason: str
    by: str
    created: datetime


class AlertResponse(Record):
    """A person's response to an open alert: until when it is not repeated, and why. The newest response counts.

    :param condition: the incident key, as in the alert and on the application's page.
    :param action: `acknowledge` suppresses repetitions, `silence` all alerts of the condition; `end` ends either.
    """

    id: str = ""  # the ledger's
    condition: str
    action: Literal["acknowledge", "silence", "end"]
    until: AwareDatetime
    reason: str
    by: str
    created: AwareDatetime

    @property
    def sentence(self) -> str:
        """Who responded, until when and why, for a person."""
        did = {"acknowledge": "acknowledged", "silence": "silenced", "end": "ended the silence of"}[self.action]
        until = "" if self.action == "end" else f" until {self.until:%Y-%m-%d %H:%M} UTC"
        return f"{self.by} {did} it{until}: {self.reason}"

    def holds(self, now: datetime) -> bool:
        """Whether the response still suppresses alerts."""
        return self.action != "end" and now < self.until


class Review(Record):
    """One person's review of one answer, or of a pair of answers, on the review page. It is never changed.

    :param key: of the answer in the sample of its interval, or of the pair.
    :param digest: of the prompt's conversation, by which an erasure finds it.
    :param good: for a pair: whether at least one answer is good.
    :param correction: what the answer should have been; "": none given.
    :param shadow: name of the shadow with both answers; it and the fields after it are "" for a single answer.
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
    """A model that becomes the champion, numbered in order; the reason is in its gate record."""

    number: int = 0
    ahead: bool = False  # whether it was written before the alias moved; older versions wrote it afterwards
    model_digest: str
    model: str = ""  # URI
    version: str = ""
    evaluation: str | None = None  # URI
    released: datetime


class Request(Record):
    """A release that needs an approval; `id` begins with the time. Its answer is a record of its own."""

    id: str
    version: str
    model_digest: str
    evaluation_digest: str
    champion_digest: str | None  # of the model in use
    after: int | None = None  # number of the newest release then; None: written by an older version
    verdict: Verdict  # of the gate
    subject: str
    dag_id: str
    run_id: str
    task_id: str
    approvers: list[str] = []  # names; empty: all users whose role may answer
    asked_by: str = ""  # who started the run by hand
    asked: datetime
    until: datetime  # rejected if unanswered by then


class Answer(Record):
    """The answer to a request. It is never changed: another answer needs another request."""

    id: str  # of the request
    answer: Literal["approved", "rejected", "timeout", "withdrawn"]
    by: str = ""  # name of the person
    reason: str = ""
    answered: datetime


DECIDING = ("gate", "watch")  # what decides without a person


class GateRecord(Record):
    """A decision of the gate, or of a person, about one candidate, with its numbers. The ledger sets `id`."""

    id: str = ""
    application: str
    version: str
    model_digest: str
    champion_digest: str | None  # of the model in use then
    evaluation: str
    evaluation_digest: str
    policy: str  # digest of the gate that decided
    verdict: Verdict
    reasons: list[str]
    numbers: dict[str, float]
    released: bool
    by: str  # one of DECIDING, or the reason of the person who released it
    person: str | None = None  # who released it, if a person did
    request: str | None = None  # id of the ledger's request, if an approval was required
    run_id: str = ""  # in which a person released it by a reason
    after: int | None = None  # number of the newest release then; None: written by an older version
    decided: datetime


class Erasure(Record):
    """An order to erase rows. Written before the first row is touched; jobs then wait until its Erased exists."""

    number: int
    hashes: dict[str, str]  # `subject`, `id` or `digest` -> its keyed hash
    reason: str
    by: str
    created: datetime


class Erased(Record):
    """The completion of an erasure.

    :param rows: erased rows of examples and traffic, quarantined ones included.
    :param rewritten: kind -> number of partitions that lost rows, or a page that showed one.
    :param deleted: kind -> number of deleted folders, which can be made again.
    :param versions: versions of the application's model that were trained on a row, or have one in their prompt.
    """

    number: int
    rows: int
    rewritten: dict[str, int]
    deleted: dict[str, int]
    versions: list[str]
    by: str
    ended: datetime


class Split(Record):
    """A split: a candidate, the challenger, answers a growing share of the champion's traffic.

    :param decision: id of the gate record that started it.
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
        """Return which rows of an interval the challenger, or the champion, answers."""
        return Arm(split=self.number, challenger=challenger, key=self.key, unit=self.settings.unit, share=share)


class IntervalArms(Record):
    """Which versions answer an interval, fixed before its first row is answered: a rerun gives the same."""

    interval: str  # key
    split: int
    share: float  # of the challenger


class Arms(Record):
    """The scores of both arms of a split so far, from the evidence published for a look.

    :param evidence: number of that look.
    :param metric: by which the answers are compared; None: too few of both arms have a score.
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
    """The decision about a split after one interval. Each interval of the split has one, in order of their ends.

    :param step: index, from 0, of the share at which the interval was answered.
    :param evidence: number of the look whose evidence holds all so far; 0: none yet.
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
