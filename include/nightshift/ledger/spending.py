"""An application's spending of a month, in one file: sums of accounts of its pods, judge and embedder, of answers to intervals,
evaluations, bias probes, shadows and replays, and its storage.

    <storage>/<app>/usage/summary.json

Accounts and manifests stay the truth: each is read once and its sums are kept, and a missing summary is made again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from pydantic import AwareDatetime, BaseModel, ValidationError
from upath import UPath

from nightshift.errors import BadInput
from nightshift.ledger.budget import MONTH_DAYS, Bound, Spent, bounds, forecast
from nightshift.ledger.pod_accounts import accounts_of, read_account
from nightshift.ledger.store import Ledger
from nightshift.settings.people import Budget
from nightshift.storage.endpoint_accounts import endpoint_accounts, read_endpoint_account
from nightshift.storage.files import names_in, read_bytes, read_each, replace
from nightshift.storage.manifest import Manifest, read_manifest

LATE_DAYS = 8  # in which accounts may still arrive in the folder of the day on which their pod ended
HOURS_OF_A_MONTH = 730
ASKED = ("answers", "probes", "shadows")  # folders with the answers to evaluations, bias reports and shadows
REPLAYED = "replay_reports"  # by the interval that was answered again
ARMS = "arms"  # the challengers' interactions, by split
NEWEST_SPLITS = 9  # that are read: a month has no more
COUNTED_AFTER = timedelta(hours=20)  # storage is measured once a day, by an hourly task that may be late


class Pod(NamedTuple):
    """The end and the use of one pod."""

    ended: AwareDatetime
    hours: float
    gpu_hours: float
    cost: float


class Interactions(NamedTuple):
    """The publication time and the use of one interval's interactions."""

    created: AwareDatetime
    prompt_tokens: int
    response_tokens: int
    cost: float


class Asked(NamedTuple):
    """The time and the cost of requests to an endpoint, a judge or an embedder."""

    created: AwareDatetime
    cost: float


class Stored(NamedTuple):
    """The size of an application's storage when it was measured."""

    at: AwareDatetime
    bytes: int
    files: int


class Summary(BaseModel):
    """What was used in the last 31 days: pods by the day and name of their account, intervals by their key,
    and what a challenger answered of one by its path.

    :param asked: by folder and address, as long as the answers are there: a few for each candidate.
    :param judged: by the day and name of the account of a judge or an embedder.
    """

    pods: dict[str, Pod] = {}
    nights: dict[str, Interactions] = {}
    asked: dict[str, Asked] = {}
    judged: dict[str, Asked] = {}
    storage: Stored | None = None

    def spent(self, days: int, now: datetime, price_per_gb_month: float = 0.0) -> Spent:
        """Return the use of the last `days` days; storage is assumed to have had its measured size all the time."""
        since = now - timedelta(days=days)
        pods = [pod for pod in self.pods.values() if since < pod.ended]
        interactions = [one for one in self.nights.values() if since < one.created]
        asked = [one for one in (*self.asked.values(), *self.judged.values()) if since < one.created]
        stored = self.storage.bytes / 1e9 if self.storage else 0.0
        return Spent(
            pod_hours=sum(pod.hours for pod in pods),
            gpu_hours=sum(pod.gpu_hours for pod in pods),
            pod_cost=sum(pod.cost for pod in pods),
            endpoint_cost=sum(one.cost for one in interactions) + sum(one.cost for one in asked),
            storage_cost=stored * price_per_gb_month * days * 24 / HOURS_OF_A_MONTH,
            prompt_tokens=sum(one.prompt_tokens for one in interactions),
            response_tokens=sum(one.response_tokens for one in interactions),
        )


def kept_summary(home: UPath) -> Summary | None:
    """Return the stored summary, None if there is none.

    :param home: the application's folder.
    """
    content = read_bytes(home / "usage" / "summary.json")
    try:
        return Summary.model_validate_json(content) if content else None
    except ValidationError:
        return None


def summary_now(ledger: Ledger, now: datetime) -> Summary:
    """Return the stored summary with later accounts added.

    :raises OSError: storage cannot be read.
    """
    return _with_news(ledger, kept_summary(ledger.home), now, LATE_DAYS)


def keep_summary(ledger: Ledger, now: datetime) -> Summary:
    """Write the summary if it changed, and return it. Once an hour it reads the accounts of a week, otherwise of two days.

    :raises OSError: storage cannot be read or written.
    """
    kept = kept_summary(ledger.home)
    new = _with_news(ledger, kept, now, LATE_DAYS if now.minute < 5 else 2)
    if new != kept:
        write_summary(ledger.home, new)
    return new


def write_summary(home: UPath, summary: Summary) -> None:
    """Write a summary. Of two writers either may win: accounts that it lacks are read again."""
    replace(home / "usage" / "summary.json", summary.model_dump_json().encode())


def count_storage(home: UPath, now: datetime) -> Stored | None:
    """Measure an application's storage and add it to its summary; None if that was done in the last 20 hours.

    It lists a partition at a time, so that its memory does not grow with the history.

    :raises OSError: storage cannot be read or written.
    """
    kept = kept_summary(home) or Summary()
    if kept.storage and now - kept.storage.at < COUNTED_AFTER:
        return None
    sizes = Counter[str]()
    for folder in _entries(home.fs, home.path):
        for one in _entries(home.fs, folder["name"]) if folder["type"] == "directory" else [folder]:
            below = home.fs.find(one["name"], detail=True).values() if one["type"] == "directory" else [one]
            for file in below:
                sizes.update(bytes=file["size"], files=1)
    stored = Stored(now, sizes["bytes"], sizes["files"])
    write_summary(home, (kept_summary(home) or Summary()).model_copy(update={"storage": stored}))
    return stored


def spent_by_days(summary: Summary, budget: Budget, now: datetime) -> dict[int, Spent]:
    """Return the use of a week and of a month, by their number of days."""
    return {days: summary.spent(days, now, budget.storage_price) for days in (7, MONTH_DAYS)}


def bounds_now(ledger: Ledger, budget: Budget, now: datetime) -> list[Bound]:
    """Return the current use of a budget's bounds; without bounds nothing is read.

    :raises OSError: storage cannot be read.
    """
    if not budget.is_set:
        return []
    spent = spent_by_days(summary_now(ledger, now), budget, now)
    return bounds(budget, spent, forecast(ledger.index("outcomes").outcomes.values()))


def _with_news(ledger: Ledger, kept: Summary | None, now: datetime, late_days: int) -> Summary:
    """A summary with later accounts added; without a stored one, the whole month is read."""
    home, known, since = ledger.home, kept or Summary(), now - timedelta(days=MONTH_DAYS + 1)
    new = Summary(storage=known.storage)
    new.pods = {name: pod for name, pod in known.pods.items() if pod.ended > since}
    days = [now.astimezone(UTC).date() - timedelta(days=back) for back in range(late_days if kept else MONTH_DAYS + 1)]
    wanted = list(_new_accounts(home, days, accounts_of, known.pods))
    for (name, _), pod in zip(wanted, read_each(home, lambda one: read_account(one[1]), wanted), strict=True):
        if pod:
            new.pods[name] = Pod(pod.ended, pod.hours, pod.hours * pod.gpus, pod.hours * pod.price_per_hour)
    new.judged = {name: one for name, one in known.judged.items() if one.created > since}
    wanted = list(_new_accounts(home, days, endpoint_accounts, known.judged))
    for (name, _), said in zip(wanted, read_each(home, lambda one: read_endpoint_account(one[1]), wanted), strict=True):
        if said:
            new.judged[name] = Asked(said.asked, said.cost)
    published = {key: at for key, at in ledger.index().interactions.items() if at > since}
    new.nights = {key: one for key, one in known.nights.items() if published.get(key) == one.created}
    unread = [key for key in published if key not in new.nights]
    for key, manifest in zip(
        unread, read_each(home, lambda one: _manifest(home / "interactions" / one), unread), strict=True
    ):
        new.nights[key] = _interactions(manifest, published[key])
    of_challengers = [
        path
        for split in names_in(home / ARMS)[-NEWEST_SPLITS:]
        for key in names_in(home / ARMS / split)
        if key[:10] > since.date().isoformat() and (path := f"{ARMS}/{split}/{key}")
    ]
    new.nights |= {path: known.nights[path] for path in of_challengers if path in known.nights}
    unread = [path for path in of_challengers if path not in new.nights]
    for path, manifest in zip(unread, read_each(home, lambda one: _manifest(home / one), unread), strict=True):
        if manifest:
            new.nights[path] = _interactions(manifest, manifest.created)
    # Replays follow their interval within days, so that older intervals have no new answers.
    replayed = [key for key in names_in(home / REPLAYED) if key[:10] > since.date().isoformat()]
    folders = [*ASKED, *(f"{REPLAYED}/{key}" for key in replayed)]
    there = [f"{folder}/{name}" for folder in folders for name in names_in(home / folder)]
    new.asked = {name: one for name, one in known.asked.items() if name in there or one.created > since}
    unread = [name for name in there if name not in new.asked]
    for name, one in zip(unread, read_each(home, lambda name: _manifest(home / name), unread), strict=True):
        if one:
            new.asked[name] = Asked(one.created, one.facts.get("cost", 0.0))
    return new


def _entries(files: Any, folder: str) -> list[dict[str, Any]]:
    """The entries of a folder; none if it was removed meanwhile."""
    files.invalidate_cache(folder)
    try:
        return list(files.ls(folder, detail=True))
    except FileNotFoundError:
        return []


def _new_accounts(
    home: UPath, days: list[date], of_day: Callable[[UPath, date], Iterator[UPath]], known: Container[str]
) -> Iterator[tuple[str, UPath]]:
    for day in days:
        for path in of_day(home, day):
            if path.name.endswith(".json") and (name := f"{day}/{path.name}") not in known:
                yield name, path


def _interactions(manifest: Manifest | None, created: datetime) -> Interactions:
    facts = manifest.facts if manifest else {}
    return Interactions(created, facts.get("prompt_tokens", 0), facts.get("tokens", 0), facts.get("cost", 0.0))


def _manifest(partition: UPath) -> Manifest | None:
    """A manifest; None if it is unreadable, which pages and verdicts report."""
    try:
        return read_manifest(partition)
    except BadInput:
        return None
