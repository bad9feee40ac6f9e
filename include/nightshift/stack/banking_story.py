"""The story of the banking sample: data arrives and a person starts one training; the rest happens by itself.

Four days of messages make the first champion. It answers two quiet nights, then two with intents that it never saw. The
monitor fails these and orders one retraining. Its model answers in the shadow of the champion, replaces it, and answers the last
night again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from nightshift.stack.follow import Follower
from nightshift.stack.story_runs import FINETUNE_STEPS, TRAINING_SECONDS, Results, StoryRuns
from nightshift.stack.summary import (
    finetune_summary,
    ingest_summary,
    intervals_summary,
    pages,
    replay_summary,
    shadow_summary,
)

APPLICATION = "banking_assistant"
DAGS = ("ingest", "finetune", "release", "batch_inference", "nightly_drift", "nightly_bias")
FIRST_DAY = date(2026, 11, 2)
LEARNED = [str(FIRST_DAY + timedelta(days=n)) for n in range(4)]
QUIET = LEARNED[2:]
CHANGED = [str(FIRST_DAY + timedelta(days=n)) for n in (4, 5)]
INTERVALS = [*QUIET, *CHANGED]


@dataclass(frozen=True)
class Story:
    """What came out: results by task, of each day, night, training and release."""

    days: dict[str, Results]
    intervals: dict[str, Results]
    first: Results
    retraining: Results
    shadow: dict[str, Any]
    replay: dict[str, Any]
    bias: dict[str, Any]


def tell(follower: Follower, _project: Path) -> tuple[str, str]:
    """Have everything done that is not, in order, and return what came out and where to look, as text for a person.

    :raises RunFailed: a task failed.
    :raises BadEnvironment: Airflow does not answer.
    """
    story = _told(StoryRuns(follower, APPLICATION))
    return (
        f"\nIngested\n{ingest_summary(story.days)}\n"
        f"\nThe first champion\n{finetune_summary(story.first)}\n"
        f"\nThe nights\n{intervals_summary(story.intervals)}\n"
        f"\nThe retraining that drift ordered\n  why          {story.retraining['due'].get('reason', '?')}\n"
        f"{finetune_summary(story.retraining)}\n"
        f"\nIn the shadow of the champion\n{shadow_summary(story.shadow)}\n"
        f"\nThe last night, answered again by the new champion\n{replay_summary(story.replay)}\n",
        links(story),
    )


def links(story: Story) -> str:
    """Return the pages that show more than the summary says."""
    last_day, last_interval = (list(by_day.values())[-1] if by_day else {} for by_day in (story.days, story.intervals))
    return pages(
        {
            "data checks": last_day.get("validate", {}).get("data_docs"),
            "drift": last_interval.get("drift", {}).get("run_url"),
            "bias": story.bias.get("run_url"),
            "retraining": story.retraining.get("register", {}).get("run_url"),
            "shadow": story.shadow.get("run_url"),
            "replay": story.replay.get("run_url"),
            "the model": story.retraining.get("register", {}).get("model_url"),
        }
    )


def _told(runs: StoryRuns) -> Story:
    runs.unpause("release", "nightly_drift")
    days = runs.done("ingest", LEARNED, ("ingest", "validate"))
    (first,) = runs.done("finetune", LEARNED[-1:], FINETUNE_STEPS, "until", TRAINING_SECONDS).values()
    runs.promoted(first["register"]["version"])
    runs.begin("ingest", CHANGED)  # beside the nights, which leave processors idle while their tasks start
    intervals = runs.done("batch_inference", QUIET, ("score",))
    days |= runs.done("ingest", CHANGED, ("ingest", "validate"))
    intervals |= runs.done("batch_inference", CHANGED, ("score",))
    verdicts = runs.judged(INTERVALS)
    runs.say("waiting for the retraining that drift ordered")
    retraining = runs.ordered_training()
    version = retraining["register"]["version"]
    runs.promoted(version)
    runs.begin("nightly_bias", CHANGED[-1:], "night")
    release = runs.released(version)
    (bias,) = runs.done("nightly_bias", CHANGED[-1:], ("bias",), "night").values()
    return Story(
        days=days,
        intervals={interval: {**intervals[interval], "drift": verdicts[interval]} for interval in INTERVALS},
        first=first,
        retraining=retraining,
        shadow=release["shadow"],
        replay=release["replay"],
        bias=bias["bias"],
    )
