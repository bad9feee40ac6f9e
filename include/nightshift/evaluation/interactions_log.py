"""What an interval cost and how it scored, as a run in MLflow."""

from __future__ import annotations

from upath import UPath

from nightshift.registry.tracking import TrackingRun
from nightshift.settings.application import Application
from nightshift.storage.manifest import Manifest


def log_interactions(application: Application, target: UPath, interactions: Manifest) -> str:
    """Log the manifest of an interval's interactions at `target`, and return the URL of the run.

    :raises BadEnvironment: MLflow cannot be reached.
    """
    assert interactions.interval is not None  # noqa: S101  (every interval has one)
    facts, counts = interactions.facts, interactions.counts
    arm = interactions.inputs.get("arm")
    who = ("challenger" if arm["challenger"] else "champion") if arm else ""
    kind = "replay" if facts["replay"] else who or "interactions"
    run = TrackingRun(
        application.name,
        key=f"score-{interactions.digest[:16]}",
        name=f"{kind} {interactions.interval.key}",
        tags={
            "nightshift.job": "score",
            "nightshift.interactions": str(target),
            "nightshift.interactions_digest": interactions.digest,
            "nightshift.interval": interactions.interval.key,
            **({"nightshift.arm": who} if who else {}),
            "nightshift.model_version": facts["model"],
            "nightshift.model_digest": facts["model_digest"],
        },
    )
    run.params(
        {
            "interval": interactions.interval.key,
            "model": facts["model"] or "served elsewhere",
            "prompt_version": facts["prompt_version"],
            "inference": application.inference.model_dump(mode="json"),
            **application.answer_inputs,
        }
    )
    seconds = facts["generation_seconds"]
    run.metrics(
        {
            **{f"count/{name}": number for name, number in counts.items()},
            **{f"mean/{name}": mean for name, mean in facts["means"].items()},
            **{
                f"{reason}/{score}": rows
                for score, reasons in facts.get("unscored", {}).items()
                for reason, rows in reasons.items()
                if reason in {"failed", "not_applicable"}
            },
            **{f"cpu_seconds/{name}": spent for name, spent in facts["seconds"].items()},
            **{f"judge/{name}": number for name, number in (facts["judge"] or {}).items()},
            **({"cost": facts["cost"]} if "cost" in facts else {}),
            "generation_seconds": seconds,
            "tokens_per_second": facts["tokens"] / seconds if seconds else 0.0,
        }
    )
    run.finish()
    return run.url
