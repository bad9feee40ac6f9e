"""Waiting for what somebody else does."""

import time
from collections.abc import Callable
from typing import Any


def wait_for(look: Callable[[], Any], seconds: float, what: str, every: float = 0.02) -> Any:
    """Return what `look` finds, as soon as it finds something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(every)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")
