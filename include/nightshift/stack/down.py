"""Stops the local stack, whatever state it is in. Data, models, the history and the passwords stay."""

from __future__ import annotations

import time

from nightshift.stack.place import this_place
from nightshift.stack.processes import stop
from nightshift.stack.up import WATCH, components


def main() -> int:
    """Stop everything that `up` started here."""
    place = this_place()
    started = time.monotonic()
    parts = components(place)
    # First what starts others: whatever it started last has its record then.
    count = stop([parts.pop(WATCH)])
    count += stop(parts.values())
    if count:
        print(f"stopped {count} processes in {time.monotonic() - started:.0f} s; what they wrote stays in {place.home}")
    else:
        print("nothing was running")
    return 0
