"""Runs pages in a few threads of their own with a time limit, so that hanging storage does not block Airflow's threads.

All routes of Airflow's API share a pool of threads. Pages that wait there for hanging storage would occupy them, and some dozens
of such pages would block Airflow's own.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, ParamSpec, TypeVar

from fastapi import HTTPException

PAGES_AT_ONCE = 8
PATIENCE_SECONDS = 20.0  # an ordinary page takes less than one

Asked = ParamSpec("Asked")
Answered = TypeVar("Answered")

_threads = ThreadPoolExecutor(PAGES_AT_ONCE, "nightshift-page")


def in_own_threads(page: Callable[Asked, Answered]) -> Callable[Asked, Coroutine[Any, Any, Answered]]:
    """Return the page as a route that runs it in these threads, and answers 503 if that takes too long."""

    @functools.wraps(page)
    async def waited_for(*args: Asked.args, **kwargs: Asked.kwargs) -> Answered:
        found = asyncio.wrap_future(_threads.submit(copy_context().run, functools.partial(page, *args, **kwargs)))
        try:
            return await asyncio.wait_for(found, PATIENCE_SECONDS)
        except TimeoutError as error:
            raise HTTPException(
                503,
                f"Storage did not answer within {PATIENCE_SECONDS:.0f} s: check that the API server reaches what the Airflow "
                "variable nightshift_storage names, then load this page again.",
            ) from error

    return waited_for
