"""Two answers to one prompt, side by side: people choose the better one, and do not know which version gave it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from nightshift.dashboard.stored import Store
from nightshift.data.pii import redact
from nightshift.data.review_pairs import PAIR_SCHEMA, PAIRS, interval_of, shown_order
from nightshift.data.review_sample import SAMPLE, sample_rows
from nightshift.ledger.records import Review
from nightshift.ledger.reviews import keep, reviews_of
from nightshift.settings.application import Application
from nightshift.settings.feedback import PAIR
from nightshift.shown import storable
from nightshift.storage.partition import read_file


class Chosen(BaseModel):
    """Which of two answers, in the order in which they were shown, somebody finds better."""

    pairs: str = Field(max_length=120)
    key: str = Field(max_length=60)
    better: Literal["first", "second", "same", "neither"]
    reason: str = Field("", max_length=2_000)


@dataclass(frozen=True)
class Two:
    """A pair; which version gave which answer, and what others chose, is shown to who has chosen.

    :param order: `champion` and `candidate`, in the order in which this person is shown them.
    """

    pair: Mapping[str, Any]
    order: tuple[str, str]
    mine: Review | None
    others: Sequence[Review]


def open_pairs(store: Store, since: datetime) -> list[str]:
    """Return the partitions of pairs of which the newest interval ended later, the newest first."""
    known = ((name, interval_of(name)[0]) for name in store.names(PAIRS))
    return [name for name, of in known if of and of.end > since][::-1]


def shown_pairs(store: Store, name: str, person: str) -> list[Two]:
    """Return the pairs of a partition as one person sees them.

    :raises BadInput: they cannot be read.
    """
    said: dict[str, list[Review]] = {}
    for one in reviews_of(store.place, [interval_of(name)[1]]):
        said.setdefault(one.key, []).append(one)
    shown = []
    for pair in _pairs(store, name):
        mine = next((one for one in said.get(pair["key"], []) if one.by == person), None)
        others = [one for one in said.get(pair["key"], []) if mine and one.by != person]
        shown.append(Two(pair, shown_order(pair["key"], person), mine, others))
    return shown


def keep_choice(store: Store, app: Application, since: datetime, said: Chosen, person: str) -> bool | None:
    """Keep a choice; return whether this call did. None: it is about nothing that may be judged."""
    if said.pairs not in open_pairs(store, since):
        return None
    pair = next((pair for pair in _pairs(store, said.pairs) if pair["key"] == said.key), None)
    if pair is None:
        return None
    first, second = shown_order(said.key, person)
    return keep(
        store.place,
        Review(
            interval=pair["night"], key=said.key, digest=pair["digest"], chosen=PAIR, shadow=interval_of(said.pairs)[1],
            version=pair["champion_model"], candidate=pair["candidate_model"], first=first,
            better={"first": first, "second": second}.get(said.better, said.better), good=said.better != "neither",
            reason=redact(storable(said.reason).strip(), app.ingest.redact, {}), by=storable(person), at=datetime.now(UTC),
        ),
    )  # fmt: skip


def _pairs(store: Store, name: str) -> list[dict[str, Any]]:
    manifest = store.manifest(PAIRS, name)
    return sample_rows(read_file(store.place / PAIRS / name, manifest, SAMPLE), schema=PAIR_SCHEMA) if manifest else []
