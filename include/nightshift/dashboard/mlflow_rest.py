"""What MLflow says of an application's trainings, by its REST API: its own client takes seconds and 200 MB to import.

Asked with a short patience and kept for some seconds, so that a server that is down costs one sentence and no page.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from nightshift.errors import BadEnvironment
from nightshift.orchestration.attempt import tracking_uri

PATIENCE_SECONDS = 2.0
KEPT_SECONDS = 8.0
POINTS = 5_000  # of one curve that are asked for
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


@dataclass(frozen=True)
class Found:
    """What MLflow answered: also that there is nothing is an answer."""

    training: Training | None


class Mlflow:
    """A tracking server.

    :param connection: Airflow's, with a login where the server asks for one.
    :raises BadEnvironment: it does not answer, or refuses (every method).
    """

    def __init__(self, connection: Any) -> None:
        self.uri = tracking_uri(connection).rstrip("/")
        login = (connection.login, connection.password or "") if connection.login else None
        self._client = httpx.Client(base_url=self.uri, timeout=PATIENCE_SECONDS, auth=login, trust_env=False)

    def newest_training(self, application: str) -> Training | None:
        """Return the training that began last, with its curves, or None where there was none."""
        return kept((self.uri, application), lambda: self._newest(application)).training

    def training(self, run_id: str) -> Training | None:
        """Return a training by the id of its run, or None where MLflow does not have it any more."""
        return kept((self.uri, run_id), lambda: self._by_id(run_id)).training

    def _newest(self, application: str) -> Found:
        answer = self._ask("GET", "experiments/get-by-name", {"experiment_name": application}, absent=True)
        if answer is None:
            return Found(None)
        search = {
            "experiment_ids": [answer["experiment"]["experiment_id"]],
            "filter": "tags.`nightshift.job` = 'train'",
            "order_by": ["attributes.start_time DESC"],
            "max_results": 1,
        }
        runs = (self._ask("POST", "runs/search", search) or {}).get("runs", [])
        return Found(self._training(runs[0]) if runs else None)

    def _by_id(self, run_id: str) -> Found:
        answer = self._ask("GET", "runs/get", {"run_id": run_id}, absent=True)
        return Found(self._training(answer["run"]) if answer else None)

    def _training(self, run: dict[str, Any]) -> Training:
        info, data = run["info"], run.get("data", {})
        known = {metric["key"] for metric in data.get("metrics", [])}
        tags = {tag["key"]: tag["value"] for tag in data.get("tags", [])}
        return Training(
            run_id=info["run_id"],
            name=info.get("run_name", ""),
            url=f"{self.uri}/#/experiments/{info['experiment_id']}/runs/{info['run_id']}",
            status=info["status"],
            started=_moment(info["start_time"]),
            ended=_moment(info["end_time"]) if info.get("end_time") else None,
            reason=tags.get("nightshift.reason", ""),
            curves={name: self._curve(info["run_id"], name) for name in CURVES if name in known},
        )

    def _curve(self, run_id: str, name: str) -> list[tuple[int, float]]:
        asked = {"run_id": run_id, "metric_key": name, "max_results": POINTS}
        metrics = (self._ask("GET", "metrics/get-history", asked) or {}).get("metrics", [])
        return sorted((int(one.get("step", 0)), float(one["value"])) for one in metrics)

    def _ask(self, method: str, path: str, asked: dict[str, Any], *, absent: bool = False) -> dict[str, Any] | None:
        """:param absent: None is an answer, where MLflow knows no such thing."""
        reads = method == "GET"
        try:
            answer = self._client.request(
                method, f"/api/2.0/mlflow/{path}", params=asked if reads else None, json=None if reads else asked
            )
        except httpx.HTTPError as error:
            raise BadEnvironment(
                f"MLflow at {self.uri} does not answer ({type(error).__name__}); its numbers come back when it does"
            ) from error
        if absent and answer.status_code == 404:
            return None
        if answer.status_code in {401, 403}:
            raise BadEnvironment(
                f"MLflow at {self.uri} refuses the login of the Airflow connection nightshift_mlflow ({answer.status_code})"
            )
        if not answer.is_success:
            raise BadEnvironment(f"MLflow at {self.uri} answers {answer.status_code}; its own log says more")
        try:
            return dict(answer.json())
        except ValueError as error:
            raise BadEnvironment(f"what answers at {self.uri} is no MLflow") from error


_kept: dict[tuple[str, str], tuple[float, Found | BadEnvironment]] = {}
_lock = threading.Lock()


def kept(key: tuple[str, str], ask: Callable[[], Found]) -> Found:
    """Return what `ask` answered in the last seconds, or answers now. That a server is down is kept as well.

    :raises BadEnvironment: it is.
    """
    with _lock:
        for old in [other for other, (then, _) in _kept.items() if time.monotonic() - then > KEPT_SECONDS]:
            del _kept[old]
        known = _kept.get(key)
    if known is None:
        answer: Found | BadEnvironment
        try:
            answer = ask()
        except BadEnvironment as error:
            answer = error
        known = (time.monotonic(), answer)
        with _lock:
            _kept[key] = known
    if isinstance(known[1], BadEnvironment):
        raise known[1]
    return known[1]


def thinned(curve: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """Return at most `most` points of a curve, evenly spread, the last one among them."""
    if len(curve) <= most:
        return list(curve)
    return [curve[round(place * (len(curve) - 1) / (most - 1))] for place in range(most)]


def _moment(milliseconds: int | str) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
