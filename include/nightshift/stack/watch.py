"""Restarts the scheduler of the local stack when tasks hang in its queue, and keeps logs short: `python -m
nightshift.stack.watch`.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from nightshift.errors import BadEnvironment
from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.credentials import HOUSEKEEPING
from nightshift.stack.place import Place, this_place
from nightshift.stack.processes import start_lock
from nightshift.stack.stuck import stuck_tasks
from nightshift.stack.up import SCHEDULER, components, restart_if_stuck

LOOK_SECONDS = 10.0
# After a restart, and twice as long after each that did not help: it ends whatever runs.
REST_SECONDS, LONGEST_REST_SECONDS = 120.0, 3600.0
UNANSWERED = 6


class Ending:
    """What SIGTERM does: end at once, or where a restart is under way, before the scheduler is started again.

    `down` ends this process first: what it started has its record by then.
    """

    def __init__(self) -> None:
        self.asked = self._held = False
        signal.signal(signal.SIGTERM, self._end)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Go on to the end of the block."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self.asked:
                sys.exit(0)

    def _end(self, *_: object) -> None:
        self.asked = True
        if not self._held:
            sys.exit(0)


def main() -> int:
    """Look until the stack is stopped."""
    place, ending = this_place(), Ending()
    say(f"looking every {LOOK_SECONDS:.0f} s for tasks that hang in the scheduler's queue")
    unanswered = 0
    while True:
        try:
            with AirflowApi(place, HOUSEKEEPING) as api:
                unanswered = 0
                _watch(place, api, ending)
        except BadEnvironment as error:
            unanswered += 1
            if unanswered == UNANSWERED:
                say(f"cannot look: {error}")
        time.sleep(LOOK_SECONDS)


def _watch(place: Place, api: AirflowApi, ending: Ending) -> None:
    parts, rest = components(place), REST_SECONDS
    scheduler = parts[SCHEDULER]
    while True:
        time.sleep(LOOK_SECONDS)
        for part in parts.values():
            part.rotate_log()
        if not stuck_tasks(api, scheduler):
            rest = REST_SECONDS
            continue
        with ending.held(), start_lock(place.processes) as alone:
            restarted = alone and restart_if_stuck(place, api, say, lambda: not ending.asked)
        if restarted:
            time.sleep(rest)
            rest = min(2 * rest, LONGEST_REST_SECONDS)


def say(text: str) -> None:
    """Write a line to the log."""
    print(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
