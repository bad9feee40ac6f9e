"""Stops the local stack, whatever state it is in. Data, models, the history and the passwords stay."""

from __future__ import annotations

import time

from nightshift.stack.place import this_place
from nightshift.stack.processes import start_lock, stop
from nightshift.stack.up import WATCH, components


def main() -> int:
    """Stop everything that `up` started here."""
    place = this_place()
    started = time.monotonic()
    parts, count = components(place), 0
    if place.processes.exists():
        # First what starts others: whatever it started last has its record then.
        count = stop([parts[WATCH]])
        with start_lock(place.processes, lambda: print("waiting for whoever starts the stack")):
            count += stop(parts.values())
    if count:
        print(f"stopped {count} processes in {time.monotonic() - started:.0f} s; what they wrote stays in {place.home}")
    else:
        print("nothing was running")
    return 0
