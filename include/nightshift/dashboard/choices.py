"""Pairs of answers to one prompt: people choose the better one without knowing which version gave it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from nightshift.dashboard.stored import Store
from nightshift.data.pii import redact
from nightshift.data.review_pairs import PAIR_SCHEMA, PAIRS, interval_of, newest_pairs, shown_order
from nightshift.data.review_sample import SAMPLE, sample_rows
from nightshift.ledger.records import Review
from nightshift.ledger.reviews import REVIEWS, keep
from nightshift.settings.application import Application
from nightshift.settings.feedback import PAIR
from nightshift.shown import storable
from nightshift.storage.files import read_each
from nightshift.storage.partition import read_file

# A cache by application: the choices of its last viewed shadow, by path.
_read: dict[Store, dict[tuple[str, str, str], Review]] = {}


class ChoiceForm(BaseModel):
    """The form in which a person chooses the better of two answers, in the order in which they were shown."""

    pairs: str = Field(max_length=120)
    key: str = Field(max_length=60)
    better: Literal["first", "second", "same", "neither"]
    reason: str = Field("", max_length=2_000)


@dataclass(frozen=True)
class ShownPair:
    """A pair of answers; their versions and other people's choices are shown after one's own choice.

    :param order: `champion` and `candidate`, in the order shown to this person.
    """

    pair: Mapping[str, Any]
    order: tuple[str, str]
    mine: Review | None
    others: Sequence[Review]


def open_pairs(store: Store, since: datetime) -> list[str]:
    """Return the partitions of pairs published after a time, by their newest interval, the newest first."""
    names = newest_pairs(store.names(PAIRS), datetime.now(UTC))
    manifests = read_each(store.place, lambda name: store.manifest(PAIRS, name), names)
    return [name for name, found in zip(names, manifests, strict=True) if found and found.created > since]


def choices_of(store: Store, shadow: str) -> list[Review]:
    """Return people's choices between the answers of a shadow. Records never change, so each is read once.

    :raises BadInput: a record cannot be read.
    """
    before = _read.get(store, {})
    paths = [(REVIEWS, shadow, name) for name in store.names(REVIEWS, shadow)]
    found = read_each(store.place, lambda path: before.get(path) or store.model(Review, *path), paths)
    now = {path: one for path, one in zip(paths, found, strict=True) if one}
    _read[store] = now
    return list(now.values())


def shown_pairs(store: Store, name: str, person: str) -> list[ShownPair]:
    """Return the pairs of a partition as one person sees them.

    :raises BadInput: they cannot be read.
    """
    by_key: dict[str, list[Review]] = {}
    for one in choices_of(store, interval_of(name)[1]):
        by_key.setdefault(one.key, []).append(one)
    shown = []
    for pair in _pairs(store, name):
        mine = next((one for one in by_key.get(pair["key"], []) if one.by == person), None)
        others = [one for one in by_key.get(pair["key"], []) if mine and one.by != person]
        shown.append(ShownPair(pair, shown_order(pair["key"], person), mine, others))
    return shown


def keep_choice(store: Store, app: Application, since: datetime, choice: ChoiceForm, person: str) -> bool | None:
    """Keep a choice; return whether this call wrote it. None: the pair is not open for choices."""
    if choice.pairs not in open_pairs(store, since):
        return None
    pair = next((pair for pair in _pairs(store, choice.pairs) if pair["key"] == choice.key), None)
    if pair is None:
        return None
    first, second = shown_order(choice.key, person)
    return keep(
        store.place,
        Review(
            interval=pair["night"], key=choice.key, digest=pair["digest"], chosen=PAIR, shadow=interval_of(choice.pairs)[1],
            version=pair["champion_model"], candidate=pair["candidate_model"], first=first,
            better={"first": first, "second": second}.get(choice.better, choice.better), good=choice.better != "neither",
            reason=redact(storable(choice.reason).strip(), app.ingest.redact, {}), by=storable(person), at=datetime.now(UTC),
        ),
    )  # fmt: skip


def _pairs(store: Store, name: str) -> list[dict[str, Any]]:
    manifest = store.manifest(PAIRS, name)
    return sample_rows(read_file(store.place / PAIRS / name, manifest, SAMPLE), schema=PAIR_SCHEMA) if manifest else []
