"""A part of a page that fails by itself: its content, or a sentence that says why there is none and what to do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from airflow.sdk.exceptions import AirflowNotFoundException

from nightshift.errors import JobError

log = logging.getLogger(__name__)

Shown = TypeVar("Shown")


@dataclass(frozen=True)
class Panel(Generic[Shown]):
    """The content in `shown`, or None and the error in `trouble`."""

    shown: Shown | None
    trouble: str = ""


def panel(read: Callable[[], Shown]) -> Panel[Shown]:
    """Return the result of `read`, or its error as a sentence. The stack trace goes to the API server's log only."""
    try:
        return Panel(read())
    except Exception as error:  # object stores and databases have errors of their own
        if not isinstance(error, JobError):
            log.warning("a part of a page cannot be shown", exc_info=True)
        return Panel(None, sentence(error))


def sentence(error: Exception) -> str:
    """Return what is wrong and what to do, for a person."""
    if isinstance(error, JobError):
        return str(error)
    if isinstance(error, AirflowNotFoundException):
        return (
            "There is no Airflow connection nightshift_mlflow: add one (type http, host and port of the MLflow server) or "
            "load airflow_settings.yaml."
        )
    if isinstance(error, PermissionError):
        return f"The API server has no permission for {error.filename or 'storage'}: grant its user access."
    if isinstance(error, OSError):
        return (
            f"Storage cannot be read ({error}): check the Airflow variable nightshift_storage, and the API server's "
            "credentials for it."
        )
    return f"This cannot be shown ({type(error).__name__}: {error}); see the API server's log."
