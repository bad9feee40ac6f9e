"""Publishes an evaluation: the scores of all models, their answers side by side, and a report page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.review_pairs import is_chosen_of_two
from nightshift.evaluation.agreement import agreement
from nightshift.evaluation.answer_file import ANSWERS
from nightshift.evaluation.answers import ModelAnswers
from nightshift.evaluation.estimates import Comparison
from nightshift.evaluation.gates import KNOWN, NEW, gate
from nightshift.evaluation.preferences import add_preferences
from nightshift.evaluation.report import render
from nightshift.evaluation.retrieved import add_retrieval, relevant_in
from nightshift.evaluation.score_file import SCORES, ScoreFile, read_scores
from nightshift.evaluation.scores import compare, estimate_of
from nightshift.evaluation.side_by_side import COLUMNS, side_by_side
from nightshift.settings.application import Application
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, Parent, digest_of
from nightshift.storage.partition import find, partition_of, publish

REPORT = "report.html"
OPINIONS = {"judge", "win_rate"}  # metrics from the LLM judge
VERSION = 6  # of scores and page; raising it makes them again


@dataclass(frozen=True)
class Evaluated:
    """A published evaluation."""

    partition: UPath
    manifest: Manifest
    scores: ScoreFile

    @property
    def metrics(self) -> dict[str, float]:
        """All numbers under flat names: `candidate/exact_match`, `candidate/exact_match_low`, `new/candidate/…`."""
        flat = _flat(self.scores.comparison)
        for name, part in self.scores.parts.items():
            flat |= {f"{name}/{key}": value for key, value in _flat(part).items()}
        facts = self.manifest.facts
        seconds = {f"{role}/seconds": float(value) for role, value in facts["seconds"].items()}
        spread = {
            f"{role}/{metric}_spread": value
            for role, metrics in facts.get("spread", {}).items()
            for metric, value in metrics.items()
        }
        return flat | seconds | spread


def evaluation_of(
    answered: list[ModelAnswers],
    snapshot: UPath,
    snapshot_manifest: Manifest,
    application: Application,
    storage: str,
    *,
    known: Set[str] = frozenset(),
    suites: Mapping[str, list[ModelAnswers]] | None = None,
) -> Evaluated:
    """Publish the comparison of judged models with its verdict, or find it.

    :param answered: base, champion (where there is one) and candidate, on the same examples.
    :param known: digests of the held-out examples of the snapshot that the champion was trained on.
    :param suites: the same models on the examples of each suite.
    """
    of_suites = {
        name: {one.model.role: one.manifest.digest for one in answered} for name, answered in (suites or {}).items()
    }
    own = {name: one.made_by for name, one in application.scorers.items() if name in application.gate.metrics}
    relevant = application.retrieval.relevant if application.retrieval else None
    inputs = {
        "snapshot": snapshot_manifest.digest,
        "models": {one.model.role: one.model.digest for one in answered},
        "answers": {one.model.role: one.manifest.digest for one in answered},
        "gate": application.gate.model_dump(mode="json"),
        "version": VERSION,
        **({"suites": of_suites} if of_suites else {}),
        **({"relevant": relevant} if relevant else {}),
        **({"scorers": own} if own else {}),
        **({"judge": application.judged_by} if OPINIONS & application.gate.metrics else {}),
    }
    partition = partition_of(storage, application.name, "evaluations", digest_of(inputs)[:16])
    manifest = find(partition, inputs)
    if manifest is not None:
        return Evaluated(partition, manifest, read_scores(partition, manifest))

    answered, too_long = _asked(answered)
    wins = _win_rates(answered, application, storage)
    comparison = _compared(answered, wins)
    slices = _slices(answered, wins, known) if known else {}
    table = _answers(answered)
    spreads = {one.model.role: one.spread for one in answered}
    judged_by = {
        name: _compared(of_suite, _win_rates(of_suite, application, storage))
        for name, of_suite in (suites or {}).items()
    }
    decision = gate(comparison, application.gate, slices | judged_by)
    roles = [one.model.role for one in answered]
    against = next((role for role in ("champion", "base") if role in roles), "")
    file = ScoreFile(
        application=application.name,
        snapshot=snapshot_manifest.digest,
        days=snapshot_manifest.facts.get("days", []),
        models=inputs["models"],
        comparison=comparison,
        slices=slices,
        suites=judged_by,
        changes=_changes(answered),
        examples=side_by_side(table.select(COLUMNS).to_pylist(), against) if against else None,
        decision=decision.model_copy(update={"reasons": [*decision.reasons, *too_long, *_agreement(answered)]}),
    )
    answers = [one.parent for some in (answered, *(suites or {}).values()) for one in some]
    with scratch_folder(UPath(storage)) as folder:
        (folder / SCORES).write_text(file.model_dump_json(indent=1), encoding="utf-8")
        pq.write_table(table, folder / ANSWERS, compression="zstd")
        page = render(application, file, answered, snapshot_manifest)
        (folder / REPORT).write_text(page, encoding="utf-8")
        manifest = publish(
            partition,
            folder,
            kind="evaluation",
            application=application.name,
            inputs=inputs,
            rows={ANSWERS: table.num_rows},
            counts={"examples": comparison.examples, "models": len(answered)},
            facts={
                "verdict": file.decision.verdict.value,
                "seconds": {one.model.role: one.manifest.facts["seconds"] for one in answered},
                **({"spread": spreads} if any(spreads.values()) else {}),
            },
            parents=[Parent(uri=str(snapshot), digest=snapshot_manifest.digest), *answers],
        )
    return Evaluated(partition, manifest, file)


def _changes(answered: list[ModelAnswers]) -> list[str] | None:
    """The parts in which the candidate differs from the champion; None without one."""
    versions = {one.model.role: one.model.version for one in answered}
    champion, candidate = versions.get("champion"), versions.get("candidate")
    return candidate.parts.changed_from(champion.parts) if champion and candidate else None


def _compared(
    answered: list[ModelAnswers], wins: Sequence[float | None], mask: Sequence[bool] | None = None
) -> Comparison:
    """The comparison on all examples or those of a mask, with the candidate's win rate if the judge rated all of them."""
    everything = [True] * answered[0].table.num_rows if mask is None else mask
    rows = (answered[0].examples[digest] for digest in answered[0].table["digest"].to_pylist())
    rated = [one and not is_chosen_of_two(row) for one, row in zip(everything, rows, strict=True)]
    comparison = compare({one.model.role: one.answers_where(rated) for one in answered})
    kept = pa.array(everything, pa.bool_())
    add_preferences(comparison, {one.model.role: one.table["preferred"].filter(kept).to_pylist() for one in answered})
    _add_retrieval(comparison, answered, kept)
    rates = [rate for rate, kept in zip(wins, rated, strict=False) if kept]
    known = [rate for rate in rates if rate is not None]
    if known and len(known) == len(rates):
        comparison.scores["candidate"]["win_rate"] = estimate_of(known)
    return comparison


def _add_retrieval(comparison: Comparison, answered: list[ModelAnswers], kept: pa.Array) -> None:
    """Measure retrieval for the examples of a mask, for all models at the largest k, which gives none an advantage."""
    candidate = next(one for one in answered if one.model.role == "candidate")
    application = candidate.model.application
    column = application.retrieval.relevant if application.retrieval else None
    if column is None:
        return
    digests = candidate.table["digest"].filter(kept).to_pylist()
    relevant = [relevant_in(dict(candidate.examples[digest]["metadata"] or ()).get(column)) for digest in digests]
    retrieved = {one.model.role: one.table["retrieved"].filter(kept).to_pylist() for one in answered}
    k = max((one.model.application.index.k for one in answered if one.model.application.index), default=1)
    add_retrieval(comparison, relevant, retrieved, k)


def _win_rates(answered: list[ModelAnswers], application: Application, storage: str) -> list[float | None]:
    """For each example, whether the judge prefers the candidate's answer to the champion's, or without one the base model's."""
    by_role = {one.model.role: one for one in answered}
    other = by_role.get("champion") or by_role.get("base")
    if "win_rate" not in application.gate.metrics or other is None:
        return []
    from nightshift.evaluation.opinions import win_rates

    candidate = by_role["candidate"]
    rows = [candidate.examples[digest] for digest in candidate.table["digest"].to_pylist()]
    answers, others = (one.table["answer"].to_pylist() for one in (candidate, other))
    return win_rates(rows, answers, others, application, storage)


def _agreement(answered: list[ModelAnswers]) -> list[str]:
    """The judge's agreement with exact match, if a gate uses its scores."""
    scores, right = (
        [
            value
            for one in answered
            for digest, value in zip(one.table["digest"].to_pylist(), one.table[name].to_pylist(), strict=True)
            if not is_chosen_of_two(one.examples[digest])
        ]
        for name in ("judge", "exact_match")
    )
    if all(score is None for score in scores):
        return []
    found = agreement(scores, right)
    if found.kappa is None:
        return [
            f"the judge's agreement with exact match is unknown: {found.rows:,} answers, {found.positive:,} of them right"
        ]
    return [
        f"the judge agrees with exact match on {found.rows:,} answers by a kappa of {found.kappa:.2f} (1: always, 0: by chance)"
    ]


def _asked(answered: list[ModelAnswers]) -> tuple[list[ModelAnswers], list[str]]:
    """Leave out examples that are too long for all models; those too long for some count as wrong answers of these."""
    flags = [one.table["too_long"].to_pylist() for one in answered]
    asked = pa.array([not all(of_row) for of_row in zip(*flags, strict=True)], pa.bool_())
    unasked = asked.to_pylist().count(False)
    counts = ", ".join(f"{sum(of_model):,} for {one.model.role}" for one, of_model in zip(answered, flags, strict=True))
    reasons = [
        f"held-out examples too long for a model, of {len(asked):,}: {counts}. {unasked:,} were too long for all and are not "
        "judged; the others count as wrong answers of the models that cannot read them"
    ]
    answered = [replace(one, table=one.table.filter(asked)) for one in answered]
    return answered, reasons if any(map(any, flags)) else []


def _slices(answered: list[ModelAnswers], wins: Sequence[float | None], known: Set[str]) -> dict[str, Comparison]:
    """The comparison on examples that the champion was judged on, and on newer ones."""
    seen = [digest in known for digest in answered[0].table["digest"].to_pylist()]
    masks = {KNOWN: seen, NEW: [not one for one in seen]}
    return {name: _compared(answered, wins, mask) for name, mask in masks.items()}


def _flat(comparison: Comparison) -> dict[str, float]:
    groups = comparison.scores | {f"candidate_minus_{role}": scores for role, scores in comparison.differences.items()}
    flat = {"examples": float(comparison.examples)}
    for group, scores in groups.items():
        for metric, estimate in scores.items():
            flat[f"{group}/{metric}"] = estimate.value
            flat[f"{group}/{metric}_low"] = estimate.low
            flat[f"{group}/{metric}_high"] = estimate.high
    return flat


def _answers(answered: list[ModelAnswers]) -> pa.Table:
    """One row per model and held-out example: the answers' columns with the model's role in front."""
    return pa.concat_tables(
        one.table.add_column(
            0, pa.field("role", pa.string()), pa.array([one.model.role] * one.table.num_rows, pa.string())
        )
        for one in answered
    )
