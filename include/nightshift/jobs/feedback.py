"""The job `feedback`: joins people's feedback of one interval to the interactions that it is about."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from upath import UPath

from nightshift.errors import BadInput
from nightshift.jobs.contract import IntervalSpec, JobResult
from nightshift.jobs.progress import Progress
from nightshift.settings.feedback import CHOICES, REVIEWS, FeedbackSource
from nightshift.storage.erasures import erased_of
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, Parent
from nightshift.storage.partition import find, partition_of, publish
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from nightshift.data.sources import RawFile
    from nightshift.jobs.reviewing import Reviewed
    from nightshift.monitoring.due_intervals import Answered

VERSION = 1  # raised when the same raw rows would become other feedback, so that they are read again
RUN_KEY = "feedback-{:.16}"  # of the run in MLflow that has the numbers of a partition, by the digest of its inputs


class Spec(IntervalSpec):
    """Which interval of an application's feedback."""


class Result(JobResult):
    """The partition, and what became of the rows. INSUFFICIENT_DATA: there were none. WARN: none could be joined."""

    verdict: Verdict
    reason: str
    feedback: str | None = None
    digest: str | None = None
    rows_in: int = 0
    joined: int = 0
    waiting: int = 0
    duplicates: int = 0
    quarantined: int = 0
    erased: int = 0
    corrections: int = 0  # answers of these rows that are examples now
    joined_late: int = 0  # rows of earlier intervals that were joined now
    given_up: int = 0  # rows of earlier intervals that waited for too long, and are quarantined now
    waiting_before: int = 0  # rows of earlier intervals that still wait
    to_review: int = 0  # answers of the interval that people are shown on the review page


def run(spec: Spec, progress: Progress) -> Result:
    """Publish the feedback of an interval, unless it is there: made from the same rows, and joined to the same interactions.

    With `feedback.review` what people said on the review page is read, too, and the sample of the interval is chosen. Then, with
    `feedback.corrections`, the feedback's answers become examples. Rows of earlier intervals that wait are looked at again.

    :raises BadInput: the application has no `feedback`, or a file as a whole cannot be used.
    :raises BadEnvironment: a source, the storage or MLflow cannot be reached.
    """
    from nightshift.jobs.corrections import publish_corrections, what_was_learned
    from nightshift.jobs.ingest import id_key_of
    from nightshift.jobs.reviewing import publish_sample, read_reviews
    from nightshift.jobs.waiting_feedback import look_again
    from nightshift.monitoring.published_intervals import interactions_between
    from nightshift.registry.tracking import finished_keys

    app, interval = spec.application, spec.interval
    if app.feedback is None:
        raise BadInput(f"{app.name} has no `feedback` in its file")
    id_key = id_key_of(app, app.feedback.every_source)
    partition = partition_of(spec.storage, app.name, "feedback", interval.key)
    with scratch_folder(UPath(spec.storage)) as work:
        review = app.feedback.review
        sample = publish_sample(spec, review.rows, id_key, work) if review else None
        to_review = sample.counts["rows"] if sample else 0
        reviewed = read_reviews(spec, app.feedback.lookback_days) if review else None
        files, missing, answers = _files(spec, work, reviewed)
        manifest = learned = None
        if files:
            answered = interactions_between(spec.storage, app.name, _since(spec), interval.end)
            inputs: dict[str, Any] = {
                "version": VERSION,
                "interval": interval.model_dump(mode="json"),
                "files": [file.inputs for _, file in files],
                "sources": [source.model_dump(mode="json", exclude={"uri"}) for source in app.feedback.every_source],
                "ingest": app.ingest.model_dump(mode="json", exclude={"near_duplicates", "splits"}),
                "interactions": [one.digest for one in answered],
                **({"id_key": hashlib.sha256(id_key).hexdigest()[:8]} if id_key else {}),
                **({"reviews": reviewed.digest} if reviewed else {}),
            }
            manifest = find(partition, inputs) or _publish(
                spec, partition, inputs, files, answered, id_key, work, reviewed, answers
            )
            learned = publish_corrections(spec, partition, manifest, work) if app.feedback.corrections else None
        waited = look_again(spec, app.feedback.lookback_days, work / "earlier")
        logged = finished_keys(app.name, "feedback") if waited.late else set()
        for earlier, place, anew in waited.late:
            of_earlier = spec.model_copy(update={"interval": earlier})
            try:
                if app.feedback.corrections:
                    publish_corrections(of_earlier, place, anew, work / "late" / earlier.key)
            except BadInput as error:
                waited.unreadable.append(f"corrections of {earlier.key}: {error}")
            if RUN_KEY.format(anew.inputs_digest) not in logged:
                _log(of_earlier, anew, str(place))
    before = {"joined_late": waited.joined, "given_up": waited.given_up, "waiting_before": waited.waiting}
    said = [*missing, *waited.sentences(interval)]
    if manifest is None or not manifest.counts["rows_in"]:
        reason = "; ".join(["there is not one row of feedback", *said] if manifest else said)
        return Result(verdict=Verdict.INSUFFICIENT_DATA, reason=reason, to_review=to_review, **before)
    _log(spec, manifest, str(partition), {**before, "waiting_days": waited.days(interval)})
    counts = manifest.counts
    left = ", ".join(f"{counts[name]:,} {name}" for name in ("joined", "waiting", "duplicates", "quarantined"))
    return Result(
        verdict=Verdict.PASS if counts["joined"] else Verdict.WARN,
        reason="; ".join([f"{counts['rows_in']:,} rows of feedback: {left}", *what_was_learned(learned), *said]),
        feedback=str(partition),
        digest=manifest.digest,
        corrections=learned.counts["kept"] if learned else 0,
        to_review=to_review,
        **before,
        **counts,
    )


def _since(spec: Spec) -> datetime:
    """When the interactions begin that the interval's feedback may be about."""
    feedback = spec.application.feedback
    return spec.interval.end - timedelta(days=feedback.lookback_days if feedback else 0)


def _files(
    spec: Spec, work: Path, reviewed: Reviewed | None
) -> tuple[list[tuple[FeedbackSource, RawFile]], list[str], Path | None]:
    """The files of all sources that have some, and of the others, that they have none: people may have said nothing.

    Of reviews, also the file of the answers that they are about.
    """
    from nightshift.data.source_files import NoData
    from nightshift.data.sources import raw_files
    from nightshift.jobs.reviewing import write_reviews

    files, missing, answers = [], [], None
    feedback = spec.application.feedback
    for source in feedback.sources if feedback else ():
        try:
            read = _with_assessments(source, source.experiment, spec, work) if source.experiment else source
            found = raw_files(read, spec.interval, work / "sources" / source.name, spec.application.zone)
            files += [(source, file) for file in found]
        except NoData as nothing:
            missing.append(str(nothing))
    if reviewed:
        *written, answers = write_reviews(reviewed, spec, work / "reviews")
        for source, said in zip((REVIEWS, CHOICES), written, strict=True):
            if said.stat().st_size:
                local = source.model_copy(update={"uri": str(said)})
                files += [(local, file) for file in raw_files(local, spec.interval, work / "sources" / said.stem)]
        if not any(said.stat().st_size for said in written):
            missing.append("nobody reviewed an answer in the interval")
    return files, missing, answers


def _with_assessments(source: FeedbackSource, experiment: str, spec: Spec, work: Path) -> FeedbackSource:
    """The source with a local file of what people said of its experiment's traces in the interval."""
    from nightshift.data.source_files import NoData
    from nightshift.registry.assessments import write_assessments

    (folder := work / "assessments").mkdir(exist_ok=True)
    path = folder / f"{source.name}.jsonl"
    write_assessments(experiment, source.assessments, _since(spec), spec.interval, path)
    if not path.stat().st_size:
        raise NoData(f"nobody assessed a trace of MLflow's experiment {experiment!r} in the interval")
    return source.model_copy(update={"uri": str(path)})


def _publish(  # noqa: PLR0917
    spec: Spec,
    partition: UPath,
    inputs: dict[str, Any],
    files: Sequence[tuple[FeedbackSource, RawFile]],
    answered: Sequence[Answered],
    id_key: bytes,
    work: Path,
    reviewed: Reviewed | None,
    answers: Path | None,
) -> Manifest:
    from nightshift.data.examples import QUARANTINE
    from nightshift.data.feedback import FEEDBACK, WAITING, gather
    from nightshift.data.measures import TextMeasures, tokenizer_file
    from nightshift.data.staging import Staging
    from nightshift.evaluation.choices import agreement_of_choices
    from nightshift.evaluation.reviewers import agreement_of
    from nightshift.jobs.waiting_feedback import fetched
    from nightshift.training.base_model import resolve_tokenizer

    app = spec.application
    target = work / "partition"
    target.mkdir()
    measures = TextMeasures(tokenizer_file(resolve_tokenizer(app.base_model)))
    erased = erased_of(partition_of(spec.storage, app.name))
    staging = Staging(app.ingest, spec.interval, measures, "traffic", id_key or app.name.encode(), erased)
    gathered = gather(files, staging, fetched(answered, work / "interactions"), work, target, answers)
    counts = gathered.counts
    agreement = {}
    if reviewed:
        scores = {key: row["scores"] for key, row in reviewed.rows.items() if "scores" in row}
        agreement = agreement_of((review for review in reviewed.reviews if not review.better), scores)
        if reviewed.choices:
            agreement["choices"] = agreement_of_choices(reviewed.choices, reviewed.rows)
    return publish(
        partition,
        target,
        kind="feedback",
        application=app.name,
        interval=spec.interval,
        inputs=inputs,
        rows={FEEDBACK: gathered.joined, WAITING: gathered.waiting, QUARANTINE: counts["quarantined"]},
        counts=counts,
        facts={
            "models": gathered.models,
            "nights": dict(sorted(gathered.intervals.items())),
            "quarantine": dict(sorted(gathered.reasons.items())),
            "late": gathered.late,
            **({"agreement": agreement} if reviewed else {}),
        },
        parents=[Parent(uri=str(one.partition), digest=one.digest) for one in answered],
    )


def _log(spec: Spec, manifest: Manifest, feedback: str, more: Mapping[str, float] | None = None) -> None:
    from nightshift.registry.tracking import TrackingRun

    run = TrackingRun(
        spec.application.name,
        key=RUN_KEY.format(manifest.inputs_digest),
        name=f"feedback {spec.interval.key}",
        tags={
            "nightshift.job": "feedback",
            "nightshift.feedback": feedback,
            "nightshift.feedback_digest": manifest.digest,
        },
    )
    quarantine = {f"quarantine/{reason}": rows for reason, rows in manifest.facts["quarantine"].items()}
    run.metrics(
        {**manifest.counts, **quarantine, "late": manifest.facts["late"], **_agreement(manifest), **(more or {})}
    )
    run.finish()


def _agreement(manifest: Manifest) -> dict[str, float]:
    """How far reviewers agree, and scorers with them, as metrics."""
    return dict(_named("review", manifest.facts.get("agreement", {})))


def _named(path: str, measured: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in measured.items():
        if isinstance(value, dict):
            yield from _named(f"{path}/{name}", value)
        elif value is not None:
            yield f"{path}/{name}", float(value)
