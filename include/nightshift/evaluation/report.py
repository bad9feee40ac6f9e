"""The page of an evaluation: one HTML file without external resources, with a light and a dark theme."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nightshift.evaluation.answers import ModelAnswers
from nightshift.evaluation.estimates import METRICS, metric_of
from nightshift.evaluation.score_file import ScoreFile
from nightshift.settings.application import Application
from nightshift.storage.manifest import Manifest

SHOWN = 25  # examples in each list
HARDEST = 12  # reference answers in the table of the most frequent errors


def render(application: Application, scores: ScoreFile, answered: list[ModelAnswers], snapshot: Manifest) -> str:
    """Return the page. Texts of users and models are escaped."""
    environment = Environment(
        loader=PackageLoader("nightshift.evaluation", ""), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["number"] = _number
    environment.filters["metric_number"] = _metric_number
    roles = [one.model.role for one in answered]
    rows = _rows(answered)
    measured = scores.comparison.scores.get(roles[0], {})
    metrics = {name: metric_of(name) for name in [*METRICS, *(name for name in measured if name not in METRICS)]}
    return environment.get_template("report.html.jinja").render(
        application=application,
        comparison=scores.comparison,
        suites=scores.suites,
        slices={name: part for name, part in scores.slices.items() if part.examples},
        decision=scores.decision,
        roles=roles,
        metrics=metrics,
        shares=[name for name in METRICS if METRICS[name].kind == "share" and name in measured],
        models=[_model(one) for one in answered],
        snapshot=snapshot,
        days=snapshot.facts.get("days", []),
        worst=sorted((row for row in rows if not row["candidate"]["right"]), key=_badness)[:SHOWN],
        wrong=sum(not row["candidate"]["right"] for row in rows),
        sample=random.Random(snapshot.digest).sample(rows, min(SHOWN, len(rows))),  # noqa: S311
        hardest=_hardest(rows),
        changes=_changes(rows, next((role for role in ("champion", "base") if role in roles), "")),
    )


def _rows(answered: list[ModelAnswers]) -> list[dict[str, Any]]:
    """One entry per held-out example, with every role's answer."""
    tables = {one.model.role: one.table.to_pylist() for one in answered}
    first = next(iter(tables.values()))
    return [
        {
            "prompt": row["prompt"],
            "wanted": row["wanted"],
            **{
                role: {
                    "text": table[index]["answer"],
                    "right": table[index]["exact_match"] == 1,
                    "chrf": table[index]["chrf"],
                    "cut": not table[index]["finished"],
                    "loss": table[index]["wanted_loss"] / max(table[index]["wanted_tokens"], 1),
                }
                for role, table in tables.items()
            },
        }
        for index, row in enumerate(first)
    ]


def _badness(row: dict[str, Any]) -> tuple[float, float]:
    """Sort key: furthest from the reference first; among equals, the least likely reference."""
    return row["candidate"]["chrf"], -row["candidate"]["loss"]


def _hardest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reference answers that the candidate misses most often, with its own answers; for references that repeat."""
    asked = Counter(row["wanted"] for row in rows)
    if len(asked) > len(rows) / 2:
        return []
    missed = Counter(row["wanted"] for row in rows if not row["candidate"]["right"])
    order = sorted(missed, key=lambda wanted: (-missed[wanted], -missed[wanted] / asked[wanted], wanted))
    return [
        {
            "wanted": wanted,
            "asked": asked[wanted],
            "missed": missed[wanted],
            "instead": Counter(
                row["candidate"]["text"] for row in rows if row["wanted"] == wanted and not row["candidate"]["right"]
            ).most_common(2),
        }
        for wanted in order[:HARDEST]
    ]


def _changes(rows: list[dict[str, Any]], other: str) -> dict[str, Any] | None:
    """How many examples only one of the two models gets right; None without another model."""
    if not other:
        return None
    pairs = Counter((row["candidate"]["right"], row[other]["right"]) for row in rows)
    return {
        "other": other,
        "gained": pairs[True, False],
        "lost": pairs[False, True],
        "both": pairs[True, True],
        "neither": pairs[False, False],
    }


def _model(one: ModelAnswers) -> dict[str, Any]:
    facts, answers = one.manifest.facts, max(one.manifest.counts["examples"], 1)
    return {
        "role": one.model.role,
        "name": one.model.name,
        "digest": one.model.digest,
        "seconds": facts["seconds"],
        "precision": facts["precision"],
        "device": facts["device"],
        "tokens": one.manifest.counts["answer_tokens"],
        "tokens_each": one.manifest.counts["answer_tokens"] / answers,
        "cut": sum(not finished for finished in one.table["finished"].to_pylist()),
        "too_long": one.manifest.counts["too_long"],
        "refused": one.manifest.counts.get("refused", 0),
        "spread": one.spread,
    }


def _number(value: float) -> str:
    """A count with thousands separators."""
    return f"{value:,.0f}"


def _metric_number(value: float, metric: str) -> str:
    return metric_of(metric).shown(value).replace("-", "\N{MINUS SIGN}")
