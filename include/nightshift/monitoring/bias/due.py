"""Which intervals get a bias report, from manifests alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from upath import UPath

from nightshift.monitoring.due_intervals import MOST_INTERVALS, Answered
from nightshift.settings.application import Application
from nightshift.settings.interval import Interval

VERSION = 2  # of how intervals are judged; another one judges them all again


@dataclass(frozen=True)
class Due:
    """An interval to judge and what determines its verdict; one that did not arrive has no partition and no digest.

    `model_digest` says which model answered it; where that was elsewhere, or nobody, it is the champion's.
    """

    interval: Interval
    partition: UPath | None
    digest: str | None
    model_digest: str
    inputs: dict[str, Any]

    @property
    def key(self) -> str:
        """Name of the interval."""
        return self.interval.key


def inputs_of(interactions: str | None, champion: str, base: str, application: Application) -> dict[str, Any]:
    """Return what determines a verdict: digests of the interactions (None: there are none) and models, and the policy."""
    return {
        "interactions": interactions,
        "champion": champion,
        "base": base,
        "policy": application.bias.model_dump(mode="json"),
        "segments": application.traffic.segments,
        "prompt": application.prompt.model_dump(mode="json"),
        "answer_tokens": application.inference.max_new_tokens,
        **application.answer_inputs,
        "version": VERSION,
    }


def due(
    answered: Sequence[Answered],
    judged: Mapping[str, Sequence[Mapping[str, Any]]],
    champion: str,
    base: str,
    application: Application,
) -> list[Due]:
    """Return the intervals without a verdict, oldest first, of the newest 60.

    An interval that the champion answered is due again when anything changed that determines its verdict. What another
    model answered, or one that is served elsewhere, is judged once: a new champion does not make it news.

    :param judged: inputs of the published verdicts, by the key of the interval.
    """
    found = []
    for interactions in sorted(answered, key=lambda one: (one.interval.start, one.key))[-MOST_INTERVALS:]:
        one = due_interval(interactions, champion, base, application)
        decides = one.inputs if interactions.model_digest == champion else {"interactions": interactions.digest}
        known = judged.get(interactions.key, ())
        if not any(all(inputs.get(key) == value for key, value in decides.items()) for inputs in known):
            found.append(one)
    return found


def due_interval(answered: Answered, champion: str, base: str, application: Application) -> Due:
    """Return an interval as one to judge."""
    inputs = inputs_of(answered.digest, champion, base, application)
    return Due(answered.interval, answered.partition, answered.digest, answered.model_digest or champion, inputs)


def is_full(application: Application, interval: Interval) -> bool:
    """Whether an interval is asked all pairs and questions: it begins on the day for that, or is longer and holds it."""
    days = max(1, round((interval.end - interval.start) / timedelta(days=1)))
    first = application.day_of(interval).weekday()
    return application.bias.full_weekday in {(first + day) % 7 for day in range(days)}
