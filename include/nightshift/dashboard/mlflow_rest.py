"""An application's trainings from MLflow's REST API: importing its client takes seconds and 200 MB.

Requests have a short timeout, are shared by all viewers of the same page, and are cached for some seconds: a server that is down
affects only one part of a page.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from nightshift.errors import BadEnvironment
from nightshift.orchestration.attempt import environment_of
from nightshift.registry.server import address, client_arguments, pages

PATIENCE_SECONDS = 2.0  # for all requests of a page together
KEPT_SECONDS = 8.0
POINTS = 5_000  # of one curve, at most
CURVES = ("loss", "held_out_loss", "tokens_per_second")


@dataclass(frozen=True)
class Training:
    """A training run with its curves: name -> (step, value) in order of step."""

    run_id: str
    name: str
    url: str
    status: str
    started: datetime
    ended: datetime | None
    reason: str
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


class Mlflow:
    """A tracking server.

    :param connection: Airflow's, with a login if the server needs one.
    :raises BadInput: its connection names no server, or a proxy or certificates that cannot be used.
    :raises BadEnvironment: the server does not answer, or refuses (every method).
    """

    def __init__(self, connection: Any) -> None:
        environment = environment_of(connection)
        self.uri = address(environment)
        self._pages = pages(self.uri, environment)
        self._reached = client_arguments(environment)

    def newest_training(self, application: str) -> Training | None:
        """Return the newest training with its curves, or None."""
        return kept((self.uri, application), lambda: self._in_time(lambda client: self._newest(client, application)))

    def training(self, run_id: str) -> Training | None:
        """Return a training by the id of its run, or None if MLflow no longer has it."""
        return kept((self.uri, run_id), lambda: self._in_time(lambda client: self._by_id(client, run_id)))

    def _in_time(self, ask: Callable[[httpx.AsyncClient], Awaitable[Training | None]]) -> Training | None:
        async def asked() -> Training | None:
            async with (
                asyncio.timeout(PATIENCE_SECONDS),
                httpx.AsyncClient(**self._reached) as client,
            ):
                return await ask(client)

        try:
            return asyncio.run(asked())
        except TimeoutError as error:
            raise BadEnvironment(
                f"MLflow at {self.uri} does not answer within {PATIENCE_SECONDS:.0f} s; its numbers reappear when it does"
            ) from error

    async def _newest(self, client: httpx.AsyncClient, application: str) -> Training | None:
        answer = await self._ask(
            client, "GET", "experiments/get-by-name", {"experiment_name": application}, absent=True
        )
        if answer is None:
            return None
        search = {
            "experiment_ids": [answer["experiment"]["experiment_id"]],
            "filter": "tags.`nightshift.job` = 'train'",
            "order_by": ["attributes.start_time DESC"],
            "max_results": 1,
        }
        runs = (await self._ask(client, "POST", "runs/search", search) or {}).get("runs", [])
        return await self._training(client, runs[0]) if runs else None

    async def _by_id(self, client: httpx.AsyncClient, run_id: str) -> Training | None:
        answer = await self._ask(client, "GET", "runs/get", {"run_id": run_id}, absent=True)
        return await self._training(client, answer["run"]) if answer else None

    async def _training(self, client: httpx.AsyncClient, run: dict[str, Any]) -> Training:
        info, data = run["info"], run.get("data", {})
        known = {metric["key"] for metric in data.get("metrics", [])}
        tags = {tag["key"]: tag["value"] for tag in data.get("tags", [])}
        return Training(
            run_id=info["run_id"],
            name=info.get("run_name", ""),
            url=f"{self._pages}/#/experiments/{info['experiment_id']}/runs/{info['run_id']}",
            status=info["status"],
            started=_moment(info["start_time"]),
            ended=_moment(info["end_time"]) if info.get("end_time") else None,
            reason=tags.get("nightshift.reason", ""),
            curves={name: await self._curve(client, info["run_id"], name) for name in CURVES if name in known},
        )

    async def _curve(self, client: httpx.AsyncClient, run_id: str, name: str) -> list[tuple[int, float]]:
        asked = {"run_id": run_id, "metric_key": name, "max_results": POINTS}
        metrics = (await self._ask(client, "GET", "metrics/get-history", asked) or {}).get("metrics", [])
        return sorted((int(one.get("step", 0)), float(one["value"])) for one in metrics)

    async def _ask(
        self, client: httpx.AsyncClient, method: str, path: str, asked: dict[str, Any], *, absent: bool = False
    ) -> dict[str, Any] | None:
        """:param absent: return None if MLflow does not have it."""
        reads = method == "GET"
        try:
            answer = await client.request(method, path, params=asked if reads else None, json=None if reads else asked)
        except httpx.HTTPError as error:
            raise BadEnvironment(
                f"MLflow at {self.uri} does not answer ({type(error).__name__}); its numbers reappear when it does"
            ) from error
        if absent and answer.status_code == 404:
            return None
        if answer.status_code in {401, 403}:
            raise BadEnvironment(
                f"MLflow at {self.uri} refuses the login of the Airflow connection nightshift_mlflow ({answer.status_code})"
            )
        if not answer.is_success:
            raise BadEnvironment(f"MLflow at {self.uri} answers {answer.status_code}; see its log")
        try:
            return dict(answer.json())
        except ValueError as error:
            raise BadEnvironment(f"the server at {self.uri} is not MLflow") from error


@dataclass
class _Answer:
    """MLflow's last answer, which may be nothing or an error, and the lock of the viewer who asks again."""

    asking: threading.Lock = field(default_factory=threading.Lock)
    at: float = -math.inf
    value: Training | BadEnvironment | None = None


_answers: dict[tuple[str, str], _Answer] = {}
_lock = threading.Lock()


def kept(key: tuple[str, str], ask: Callable[[], Training | None]) -> Training | None:
    """Return the cached answer of `ask`, or call it; concurrent callers wait for the same answer.

    :raises BadEnvironment: the server is down.
    """
    with _lock:
        for old in [other for other, one in _answers.items() if _is_old(one) and not one.asking.locked()]:
            del _answers[old]
        answer = _answers.setdefault(key, _Answer())
    with answer.asking:
        if _is_old(answer):
            try:
                answer.value = ask()
            except BadEnvironment as error:
                answer.value = error
            answer.at = time.monotonic()
        if isinstance(answer.value, BadEnvironment):
            raise answer.value
        return answer.value


def _is_old(answer: _Answer) -> bool:
    return time.monotonic() - answer.at > KEPT_SECONDS


def thinned(curve: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """Return at most `most` points of a curve, evenly spread, the last one among them."""
    if len(curve) <= most:
        return list(curve)
    return [curve[round(place * (len(curve) - 1) / (most - 1))] for place in range(most)]


def _moment(milliseconds: int | str) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
