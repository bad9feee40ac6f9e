"""Learning rate schedules, as a share of the peak."""

from __future__ import annotations

import math
from typing import Literal

# Of all steps, at the end of warm-up, stable, decay.
WSD_DECAY = 0.2


def rate(step: int, *, schedule: Literal["cosine", "wsd", "linear", "constant"], warmup: float, steps: int) -> float:
    """Return the share of the peak learning rate at `step` (from 0) of `steps`.

    It rises linearly from the first step on (not from zero); what falls has not reached zero at the last step.

    :param warmup: share of the steps in which it rises.
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    done = (step - rising + 1) / (steps - rising + 1)
    match schedule:
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        case "linear":
            return 1 - done
        case "wsd":
            falling = max(1, round(WSD_DECAY * steps))
            return min(1.0, (steps - step) / (falling + 1))
        case "constant":
            return 1.0
