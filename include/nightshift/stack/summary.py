"""What a run of the sample did and measured, as text for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Results = Mapping[str, Mapping[str, Any]]
ROLES = ("base", "champion", "candidate")
METRICS = {"exact_match": "exact match", "rouge_l": "ROUGE-L", "chrf": "chrF"}


def ingest_summary(days: Mapping[str, Results]) -> str:
    """Return a table of the ingested days: rows in, and where they went.

    :param days: results by task (`ingest`, `validate`), by day.
    """
    columns = ("rows_in", "kept", "duplicates", "near_duplicates", "quarantined")
    lines = [f"  {'day':<12}" + "".join(f"{name.replace('_', ' '):>17}" for name in columns) + "   verdict"]
    for day, results in days.items():
        counts = results.get("ingest", {})
        verdict = results.get("validate", {}).get("verdict", "?")
        lines.append(f"  {day:<12}" + "".join(f"{_count(counts.get(name)):>17}" for name in columns) + f"   {verdict}")
    return "\n".join(lines)


def finetune_summary(results: Results) -> str:
    """Return what the fine-tuning measured.

    :param results: results by task (`snapshot`, `train`, `evaluate`, `register`).
    """
    snapshot, train, register = (results.get(task, {}) for task in ("snapshot", "train", "register"))
    lines = [
        f"  snapshot     {_count(snapshot.get('train_examples'))} examples to train on, "
        f"{_count(snapshot.get('held_out_examples'))} held out",
        f"  training     {_count(train.get('steps'))} steps, {_count(train.get('train_tokens'))} tokens in "
        f"{_number(train.get('seconds'), '.0f')} s: {_number(train.get('tokens_per_second'), ',.0f')} tokens/s; "
        f"held-out loss {_number(train.get('held_out_loss'), '.3f')}",
    ]
    scores = results.get("evaluate", {}).get("scores", {})
    judged = _count(results.get("evaluate", {}).get("examples"))
    for metric, words in METRICS.items():
        parts = [f"{role} {_score(scores[role][metric])}" for role in ROLES if metric in scores.get(role, {})]
        if parts:
            lines.append(f"  {words:<12} {' · '.join(parts)}")
    lines.append(f"               on {judged} held-out examples, with 95 % intervals")
    lines.append(
        f"  registered   {register.get('name', '?')} version {register.get('version', '?')}"
        f" ({', '.join(register.get('aliases', [])) or 'no alias'}): {register.get('verdict', '?')}"
        + "".join(f"\n               {reason}" for reason in register.get("reasons", []))
    )
    return "\n".join(lines)


def pages(days: Mapping[str, Results], results: Results) -> str:
    """Return the pages that show more than the summary says."""
    checks = next(
        (day["validate"].get("data_docs") for day in reversed(list(days.values())) if "validate" in day), None
    )
    found = {
        "data checks": checks,
        "MLflow run": results.get("register", {}).get("run_url"),
        "the model": results.get("register", {}).get("model_url"),
        "evaluation": results.get("evaluate", {}).get("evaluation"),
    }
    return "\n".join(f"  {name:<12} {where}" for name, where in found.items() if where)


def _score(score: Mapping[str, float] | float) -> str:
    if isinstance(score, Mapping):
        return f"{score['value']:.1%} [{score['low']:.1%}, {score['high']:.1%}]"
    return f"{score:.1%}"


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _number(value: float | None, form: str) -> str:
    return "?" if value is None else format(value, form)
