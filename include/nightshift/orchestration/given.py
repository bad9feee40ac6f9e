"""Values that the arguments of a job take when its task runs: as they are, never by way of a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, repr=False)
class Given:
    """A value that Airflow asks for when it renders the arguments of a task. None leaves the job its own default.

    :param told: what Airflow shows for it before the task ran; the same at each parse, or each would be a new version.
    :param read: gives the value, of the task's context.
    """

    told: str
    read: Callable[[Mapping[str, Any]], Any] = field(compare=False)

    def resolve(self, context: Mapping[str, Any]) -> Any:
        """Return the value; Airflow calls this of whatever has it."""
        return self.read(context)

    def __repr__(self) -> str:
        return f"<{self.told}>"


def result_of(task: str, name: str) -> Given:
    """Return one field of an upstream task's result; None where it has none."""
    return Given(f"{name} of {task}", lambda context: (context["ti"].xcom_pull(task_ids=task) or {}).get(name))


def param(name: str) -> Given:
    """Return what the form of the run says; None where it was left empty."""

    def read(context: Mapping[str, Any]) -> Any:
        value = context["params"][name]
        return None if value == "" else value

    return Given(f"{name} of the form", read)


def form(names: Iterable[str]) -> dict[str, Given]:
    """Return what the form of the run says under these names, by name."""
    return {name: param(name) for name in names}


def _moment(name: str) -> Given:
    return Given(name, lambda context: None if context["params"].get("day") else context.get(name))


# The interval of a scheduled run, or the one that a person asked for.
INTERVAL = {"day": param("day"), "start": _moment("data_interval_start"), "end": _moment("data_interval_end")}
RUN_ID = Given("run_id", lambda context: context["run_id"])
