"""The review page: people rate answers or choose between two, and see how far they agree. Reviews are never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field

from nightshift.dashboard.access import Asking
from nightshift.dashboard.airflow_state import storage_uri
from nightshift.dashboard.choices import ChoiceForm, ShownPair, keep_choice, open_pairs, shown_pairs
from nightshift.dashboard.own_threads import in_own_threads
from nightshift.dashboard.pages import render
from nightshift.dashboard.panels import Panel, panel
from nightshift.dashboard.stored import Store
from nightshift.data.pii import redact
from nightshift.data.review_sample import SAMPLE, SAMPLES, sample_rows
from nightshift.ledger.records import Review
from nightshift.ledger.reviews import keep, reviews_of
from nightshift.settings.application import Application
from nightshift.settings.feedback import Feedback
from nightshift.settings.interval import Interval
from nightshift.shown import storable
from nightshift.storage.partition import read_file

router = APIRouter()


class ReviewForm(BaseModel):
    """The form in which a person rates one answer."""

    interval: str = Field(max_length=60)
    key: str = Field(max_length=60)
    thumb: Literal["up", "down"]
    correction: str = Field("", max_length=20_000)
    reason: str = Field("", max_length=2_000)


@dataclass(frozen=True)
class Shown:
    """An answer of the sample; other people's reviews are shown after one's own."""

    row: Mapping[str, Any]
    mine: Review | None
    others: Sequence[Review]


@dataclass(frozen=True)
class Page:
    """Open intervals and shadows, and the answers or pairs of the `chosen` one ("" without any).

    :param agreement: the newest agreement of reviewers.
    """

    chosen: str
    intervals: Sequence[str]
    shadows: Sequence[str]
    answers: Sequence[Shown]
    pairs: Sequence[ShownPair]
    agreement: Mapping[str, Any] | None


@router.api_route("/review/{application}", methods=["GET", "HEAD"])
@in_own_threads
def review(request: Request, application: str, asking: Asking, interval: str = "") -> HTMLResponse:
    """Show the answers of an interval or the pairs of a shadow; by default those of the newest interval."""
    app, feedback = _reviewed(application, asking)
    page = panel(lambda: _page(app, feedback, interval, asking.user.get_name()))
    return render(request, "review.html.jinja", page=page, app=app, may_review=asking.may_review(application))


@router.post("/review/{application}")
@in_own_threads
def judge(application: str, form: ReviewForm, asking: Asking) -> JSONResponse:
    """Keep a review. Only JSON is accepted, which another site's page cannot send with a user's cookie."""
    app, feedback = _judged_by(application, asking)
    if form.thumb == "down" and not (form.reason.strip() or form.correction.strip()):
        raise HTTPException(422, "Say why the answer is bad, or what it should have been.")
    return _response(panel(lambda: _keep(app, feedback, form, asking.user.get_name())))


@router.post("/review/{application}/choices")
@in_own_threads
def choose(application: str, form: ChoiceForm, asking: Asking) -> JSONResponse:
    """Keep a choice between two answers, in the same way."""
    app, feedback = _judged_by(application, asking)
    if form.better == "neither" and not form.reason.strip():
        raise HTTPException(422, "Say why neither answer is good enough.")
    return _response(panel(lambda: keep_choice(_store(app), app, _since(feedback), form, asking.user.get_name())))


def _response(kept: Panel[bool | None]) -> JSONResponse:
    if kept.trouble:
        raise HTTPException(503, kept.trouble)
    if kept.shown is None:
        raise HTTPException(404, "This answer is no longer open for review: load the page again.")
    if not kept.shown:
        raise HTTPException(409, "You have reviewed this answer already; your first review counts.")
    return JSONResponse({"detail": "Kept."}, 201)


def _judged_by(application: str, asking: Asking) -> tuple[Application, Feedback]:
    """The same as :func:`_reviewed`.

    :raises HTTPException: 403: the user may not judge its answers.
    """
    asking.application(application)  # 404 if the user may not see it
    if not asking.may_review(application):
        raise HTTPException(403, f"Only approvers of {application} may review its answers.")
    return _reviewed(application, asking)


def _reviewed(application: str, asking: Asking) -> tuple[Application, Feedback]:
    """The application and its feedback settings.

    :raises HTTPException: 404: it has no review, or the user may not see it.
    """
    settings = asking.application(application).settings
    if settings is None or settings.feedback is None or settings.feedback.review is None:
        raise HTTPException(404, f"“{application}” has no `feedback.review` in its file, or its file cannot be read.")
    return settings, settings.feedback


def _store(app: Application) -> Store:
    return Store(storage_uri(), app.name, app.zone)


def _since(feedback: Feedback) -> datetime:
    """The end of the first interval that is still open for feedback."""
    return datetime.now(UTC) - timedelta(days=feedback.lookback_days)


def _open_intervals(store: Store, feedback: Feedback) -> list[str]:
    """The intervals that are open for review, the newest first."""
    known = ((name, Interval.of_key(name)) for name in store.names(SAMPLES))
    return [name for name, of in known if of and of.end > _since(feedback)][::-1]


def _rows(store: Store, interval: str) -> list[dict[str, Any]]:
    manifest = store.manifest(SAMPLES, interval)
    return sample_rows(read_file(store.place / SAMPLES / interval, manifest, SAMPLE)) if manifest else []


def _page(app: Application, feedback: Feedback, wanted: str, person: str) -> Page:
    store = _store(app)
    intervals, shadows = _open_intervals(store, feedback), open_pairs(store, _since(feedback))
    chosen = wanted if wanted in {*intervals, *shadows} else next(iter([*intervals, *shadows]), "")
    pairs = shown_pairs(store, chosen, person) if chosen in shadows else []
    interval = "" if chosen in shadows else chosen
    by_key: dict[str, list[Review]] = {}
    for one in reviews_of(store.place, [interval] if interval else []):
        by_key.setdefault(one.key, []).append(one)
    answers = []
    for row in _rows(store, interval) if interval else ():
        mine = next((one for one in by_key.get(row["key"], []) if one.by == person), None)
        answers.append(Shown(row, mine, [one for one in by_key.get(row["key"], []) if mine and one.by != person]))
    measured_intervals = store.names("feedback")
    measured = store.manifest("feedback", measured_intervals[-1]) if measured_intervals else None
    agreement = measured.facts.get("agreement") if measured else None
    return Page(chosen, intervals, shadows, answers, pairs, agreement)


def _keep(app: Application, feedback: Feedback, form: ReviewForm, person: str) -> bool | None:
    """Keep a review; return whether this call wrote it. None: the answer is not open for review."""
    store = _store(app)
    if form.interval not in _open_intervals(store, feedback):
        return None
    row = next((row for row in _rows(store, form.interval) if row["key"] == form.key), None)
    if row is None:
        return None
    texts = {
        name: redact(storable(text).strip(), app.ingest.redact, {})
        for name, text in (("correction", form.correction), ("reason", form.reason))
    }
    about = {"digest": row["digest"], "chosen": row["chosen"], "version": row["model"]}
    good, at = form.thumb == "up", datetime.now(UTC)
    return keep(
        store.place,
        Review(interval=form.interval, key=form.key, good=good, by=storable(person), at=at, **about, **texts),
    )
