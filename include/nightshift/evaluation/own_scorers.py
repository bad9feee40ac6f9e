"""Runs a team's own scorers: functions of its project folder that give each response a value.

The module is the team's code and runs with the rights of the job, as its DAGs do with those of Airflow. Only the file
whose digest the application names is run.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

from nightshift.data.interactions import Unscored
from nightshift.errors import BadInput, JobError
from nightshift.settings.module_file import module_file
from nightshift.settings.scorers import Scorer
from nightshift.shown import shown

LARGEST = 3.4028234e38  # that float32, in which scores are kept, holds
LONGEST_CATEGORY = 200  # characters, as profiles keep them
REASON_CHARACTERS = 300
# A scorer whose service is down may time out for each of thousands of rows: its failures may take this long in a job, or
# longer only while they take less time than its successes.
FAILING_SECONDS = 300.0
FEWEST_FAILURES = 3  # a single slow failure is no reason to give up

log = logging.getLogger(__name__)

Row = Mapping[str, Any]
Value = float | str


class OwnScorer:
    """One scorer of an application, with its function loaded.

    `given_up` says why its function is no longer called; "" while it is. All further rows have failed.
    """

    def __init__(self, name: str, settings: Scorer, function: Callable[[list[dict[str, Any]]], Any]) -> None:
        self._name, self._settings, self._function = name, settings, function
        self.given_up = ""
        self._failures, self._failing_seconds, self._scoring_seconds = 0, 0.0, 0.0

    def score(self, rows: Sequence[Row]) -> tuple[list[Value | None], list[Unscored | None]]:
        """Return the value of each row, or None and the reason.

        If the function fails for the whole batch, it is called for each row, so that one bad row fails alone.

        :param rows: with `prompt`, `response`, `context`, `reference`, `metadata`, `language` and `messages`.
        """
        if not rows:
            return [], []
        if self.given_up:
            return [None] * len(rows), [Unscored.FAILED] * len(rows)
        began = time.monotonic()
        try:
            given = self._ask(rows)
        except JobError:  # raised by SIGTERM anywhere in the job
            raise
        except (Exception, SystemExit):
            seconds = time.monotonic() - began
            outcomes = self._alone(rows)
            # What the batch took was lost as far as its rows fail alone, too.
            self._took(seconds * _share_failed(outcomes), failures=0)
        else:
            outcomes = [self._outcome(one) for one in given]
            seconds, failed = time.monotonic() - began, _share_failed(outcomes)
            self._scoring_seconds += seconds * (1 - failed)
            self._took(seconds * failed, failures=round(failed * len(rows)))
        values: list[Value | None] = []
        reasons: list[Unscored | None] = []
        failures = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                failures.append(outcome)
                values.append(None)
                reasons.append(Unscored.FAILED)
            else:
                values.append(outcome)
                reasons.append(Unscored.NOT_APPLICABLE if outcome is None else None)
        if failures:
            error_text = shown(f"{type(failures[0]).__name__}: {failures[0]}", REASON_CHARACTERS)
            log.warning(
                "the scorer %s failed on %s of %s rows; on the first: %s",
                self._name,
                len(failures),
                len(rows),
                error_text,
            )
            if self.given_up:
                log.error(
                    "the scorer %s is no longer called: %s; first error of its last batch: %s",
                    self._name,
                    self.given_up,
                    error_text,
                )
        return values, reasons

    def _alone(self, rows: Sequence[Row]) -> list[Value | BaseException | None]:
        """The function's values for single rows, until it is given up."""
        outcomes: list[Value | BaseException | None] = []
        for row in rows:
            if self.given_up:
                break
            began = time.monotonic()
            outcome = self._outcome(self._ask_alone(row))
            seconds = time.monotonic() - began
            if isinstance(outcome, BaseException):
                self._took(seconds, failures=1)
            else:
                self._scoring_seconds += seconds
            outcomes.append(outcome)
        return outcomes + [RuntimeError("the scorer was given up")] * (len(rows) - len(outcomes))

    def _took(self, seconds: float, *, failures: int) -> None:
        """Add the time that failures took, and give up if it is too long."""
        self._failures += failures
        self._failing_seconds += seconds
        too_long = self._failing_seconds >= max(FAILING_SECONDS, self._scoring_seconds)
        if too_long and self._failures >= FEWEST_FAILURES and not self.given_up:
            self.given_up = (
                f"given up after {self._failures:,} failures that took {self._failing_seconds:,.0f} s, of "
                f"{self._failing_seconds + self._scoring_seconds:,.0f} s in all"
            )

    def _ask(self, rows: Sequence[Row]) -> list[Any]:
        # The function gets copies of the rows, so that its changes do not affect other scorers or tries.
        given = self._function(
            [{**row, "metadata": dict(row["metadata"]), "messages": list(map(dict, row["messages"]))} for row in rows]
        )
        if hasattr(given, "tolist"):  # numpy, pandas
            given = given.tolist()
        if not isinstance(given, list | tuple):
            raise TypeError(f"it returned {type(given).__name__}, not a list")
        if len(given) != len(rows):
            raise ValueError(f"it returned {len(given)} values for {len(rows)} rows")
        return list(given)

    def _ask_alone(self, row: Row) -> Any:
        try:
            return self._ask([row])[0]
        except JobError:
            raise
        except (Exception, SystemExit) as error:
            return error

    def _outcome(self, given: Any) -> Value | BaseException | None:
        """The checked value that the function returned for a row, or its error."""
        if given is None or isinstance(given, BaseException):
            return given
        try:
            return self._checked(given)
        except (TypeError, ValueError, OverflowError) as error:
            return error

    def _checked(self, value: Any) -> Value:
        """The value in its stored form.

        :raises TypeError: it is of another type than the scorer's kind.
        :raises ValueError: it is outside of the scorer's bounds.
        """
        kind, low, high = self._settings.kind, self._settings.min, self._settings.max
        if kind == "category":
            if not isinstance(value, str):
                raise TypeError(f"expected a string, got {type(value).__name__}")
            if not 0 < len(value) <= LONGEST_CATEGORY:
                raise ValueError(f"expected a category of 1 to {LONGEST_CATEGORY} characters, got {len(value)}")
            value.encode()  # half a surrogate pair could not be written
            return value
        if not isinstance(value, Real):
            raise TypeError(f"expected a number, got {type(value).__name__}")
        number = float(value)
        if kind == "share" and number not in {0.0, 1.0}:
            raise ValueError(f"expected 0 or 1 for a share, got {number:g}")
        if not abs(number) <= LARGEST:
            raise ValueError(f"{number:g} is not a finite 32-bit number")
        if (low is not None and number < low) or (high is not None and number > high):
            raise ValueError(f"{number:g} is outside of the bounds min: {low}, max: {high}")
        return number


def _share_failed(outcomes: Sequence[Value | BaseException | None]) -> float:
    return sum(isinstance(one, BaseException) for one in outcomes) / len(outcomes)


def load_own_scorers(scorers: Mapping[str, Scorer], folder: Path) -> dict[str, OwnScorer]:
    """Return an application's own scorers by name. Each module is run once.

    :param folder: the project folder.
    :raises BadInput: a module is missing, has changed since the application was read, or cannot be imported.
    """
    modules: dict[tuple[str, str], ModuleType] = {}
    loaded = {}
    for name, settings in scorers.items():
        module, _, function = settings.function.partition(":")
        key = module, settings.digest
        modules[key] = modules.get(key) or _module(name, settings, folder)
        found = getattr(modules[key], function, None)
        if not callable(found):
            raise BadInput(f"the scorer {name}: {settings.function} is not a function of its module")
        loaded[name] = OwnScorer(name, settings, found)
    return loaded


def _module(name: str, settings: Scorer, folder: Path) -> ModuleType:
    try:
        file = module_file(settings.function, folder)
        source = file.read_bytes()
    except (OSError, ValueError) as error:
        raise BadInput(
            f"the scorer {name}: {error}; this job needs the same project folder as Airflow (docs/kubernetes.md)"
        ) from None
    digest = hashlib.sha256(source).hexdigest()
    if digest != settings.digest:
        raise BadInput(
            f"the scorer {name}: {file} has the SHA-256 {digest[:12]}…, but the application was read with "
            f"{settings.digest[:12] or 'none'}…: this job and Airflow have different versions of the project folder; "
            "bring both to the same one and clear the task"
        )
    module = ModuleType(f"nightshift_project.{settings.function.partition(':')[0]}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses and pickle look there
    try:
        # Run the source whose digest was checked; an import would read the file again.
        exec(compile(source, str(file), "exec"), module.__dict__)  # noqa: S102
    except JobError:
        raise
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        error_text = shown(f"{type(error).__name__}: {error}", REASON_CHARACTERS)
        raise BadInput(
            f"the scorer {name}: {file}:{lines[-1] if lines else 1} cannot be imported: {error_text}; correct it, or install "
            "what it imports where the jobs run"
        ) from error
    return module
