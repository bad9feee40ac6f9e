"""What a run of the sample did and measured, as text for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nightshift.settings.metrics import label_of

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
        parts = [f"{role} {score(scores[role][metric])}" for role in ROLES if metric in scores.get(role, {})]
        if parts:
            lines.append(f"  {words:<12} {' · '.join(parts)}")
    lines.append(f"               on {judged} held-out examples, with 95 % intervals")
    lines.append(
        f"  registered   {register.get('name', '?')} version {register.get('version', '?')}"
        f" ({', '.join(register.get('aliases', [])) or 'no alias'}): {register.get('verdict', '?')}"
        + "".join(f"\n               {reason}" for reason in register.get("reasons", []))
    )
    return "\n".join(lines)


def intervals_summary(intervals: Mapping[str, Results]) -> str:
    """Return a table of the nights: how many messages, how good the answers were, and what the monitor said.

    :param nights: results by task (`score`, and what `drift` said of the night), by night.
    """
    lines = [f"  {'night':<12}{'messages':>10}{'exact match':>14}   {'drift':<18}furthest from the reference"]
    for interval, results in intervals.items():
        score, drift = results.get("score", {}), results.get("drift", {})
        right = score.get("means", {}).get("exact_match")
        lines.append(
            f"  {interval:<12}{_count(score.get('rows')):>10}{'?' if right is None else f'{right:.1%}':>14}   "
            f"{drift.get('verdict', '?'):<18}{label_of(drift.get('worst') or 'nothing')}"
        )
    return "\n".join(lines)


def shadow_summary(shadow: Mapping[str, Any]) -> str:
    """Return what the shadow of the champion said about the candidate.

    :param shadow: the result of the job `shadow`; empty where it had ended in an earlier run.
    """
    return f"  {shadow.get('verdict', '?')}: " + "; ".join(shadow.get("reasons", []))


def replay_summary(replay: Mapping[str, Any]) -> str:
    """Return whether the retraining helped.

    :param replay: the result of the job `replay`.
    """
    titles = {"known": "intents it knew", "new": "intents it did not", "everything": "all messages"}
    lines = []
    for part, title in titles.items():
        if numbers := replay.get("parts", {}).get(part):
            lines.append(
                f"  {title:<20}{numbers['before']:>7.1%} -> {numbers['after']:>6.1%}   on {numbers['rows']:.0f} messages "
                f"that no training set holds"
            )
    return "\n".join([*lines, f"  {replay.get('verdict', '?')}: " + "; ".join(replay.get("reasons", []))])


def pages(found: Mapping[str, str | None]) -> str:
    """Return addresses of pages by what they show, without those that there are none of."""
    return "\n".join(f"  {name:<12} {where}" for name, where in found.items() if where)


def score(measured: Mapping[str, float] | float) -> str:
    """Return a share with its interval, where it has one."""
    if isinstance(measured, Mapping):
        return f"{measured['value']:.1%} [{measured['low']:.1%}, {measured['high']:.1%}]"
    return f"{measured:.1%}"


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _number(value: float | None, form: str) -> str:
    return "?" if value is None else format(value, form)
