"""Values of a job's arguments that are read when its task runs, and keep their types (a Jinja template makes text)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, repr=False)
class RuntimeValue:
    """A value that Airflow resolves when it renders the arguments of a task. None selects the job's default.

    :param shown: what Airflow shows before the task ran; equal at each parse, or each parse would make a new DAG version.
    :param read: returns the value from the task's context.
    """

    shown: str
    read: Callable[[Mapping[str, Any]], Any] = field(compare=False)

    def resolve(self, context: Mapping[str, Any]) -> Any:
        """Return the value; Airflow calls this method when it renders templates."""
        return self.read(context)

    def __repr__(self) -> str:
        return f"<{self.shown}>"


def result_of(task: str, name: str) -> RuntimeValue:
    """Return one field of an upstream task's result; None if it is missing."""
    return RuntimeValue(f"{name} of {task}", lambda context: (context["ti"].xcom_pull(task_ids=task) or {}).get(name))


def param(name: str) -> RuntimeValue:
    """Return a parameter of the run; None if it was left empty."""

    def read(context: Mapping[str, Any]) -> Any:
        value = context["params"][name]
        return None if value == "" else value

    return RuntimeValue(f"{name} of the form", read)


def form(names: Iterable[str]) -> dict[str, RuntimeValue]:
    """Return parameters of the run, by name."""
    return {name: param(name) for name in names}


def _moment(name: str) -> RuntimeValue:
    return RuntimeValue(name, lambda context: None if context["params"].get("day") else context.get(name))


# The interval of a scheduled run, or the one that a person entered.
INTERVAL = {"day": param("day"), "start": _moment("data_interval_start"), "end": _moment("data_interval_end")}
RUN_ID = RuntimeValue("run_id", lambda context: context["run_id"])
