"""MLflow by its REST API, for what only decides: MLflow's own client takes seconds and 200 MB to import."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from nightshift.code_version import code_version
from nightshift.errors import BadEnvironment

KEY_TAG = "nightshift.key"  # of a run: what it is found again by
DIGEST_TAG = "nightshift.model_digest"  # of a version: digest of its model's manifest
NO_SUCH = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # MLflow's words for an unknown model and alias
PATIENCE_SECONDS = 20.0  # for one answer
AT_ONCE = 100  # tags that MLflow takes in one call


class Mlflow:
    """A tracking server.

    :param environment: what MLflow's client must know of it: `MLFLOW_TRACKING_URI`, and a login or a token.
    :raises BadEnvironment: it does not answer, or refuses (every method).
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.uri = environment.get("MLFLOW_TRACKING_URI", "").rstrip("/")
        if not self.uri.startswith(("http://", "https://")):
            raise BadEnvironment(
                f"MLFLOW_TRACKING_URI is {self.uri!r}; a decision is shown by an MLflow server (http:// or https://)"
            )
        login = environment.get("MLFLOW_TRACKING_USERNAME")
        token = environment.get("MLFLOW_TRACKING_TOKEN")
        self._client = httpx.Client(
            base_url=f"{self.uri}/api/2.0/mlflow/",
            auth=(login, environment.get("MLFLOW_TRACKING_PASSWORD", "")) if login else None,
            headers={"Authorization": f"Bearer {token}"} if token and not login else {},
            timeout=PATIENCE_SECONDS,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._client.close()

    def show(self, application: str, key: str, name: str, tags: Mapping[str, str], metrics: Mapping[str, float]) -> str:
        """Write a run that has ended, or write it again where there is one for `key`; return the address of its page."""
        experiment = self._experiment(application)
        run = self._find(experiment, key) or self._create(application, experiment, key, name)
        every = {"mlflow.runName": name, **tags}
        pairs = [{"key": key, "value": value} for key, value in every.items()]
        moment = int(time.time() * 1000)
        for start in range(0, len(pairs), AT_ONCE):
            self._post("runs/log-batch", {"run_id": run, "tags": pairs[start : start + AT_ONCE]})
        numbers = [
            {"key": key, "value": float(value), "timestamp": moment, "step": 0} for key, value in metrics.items()
        ]
        if numbers:
            self._post("runs/log-batch", {"run_id": run, "metrics": numbers})
        # Last: a run that has not finished was not written whole.
        self._post("runs/update", {"run_id": run, "status": "FINISHED", "end_time": moment})
        return f"{self.uri}/#/experiments/{experiment}/runs/{run}"

    def champion(self, application: str) -> tuple[str, str] | None:
        """Return version and model digest of what the alias `champion` names, or None where there is none."""
        asked = {"name": application, "alias": "champion"}
        found = self._ask("GET", "registered-models/alias", asked, but=NO_SUCH)
        if found is None:
            return None
        version = found["model_version"]
        tags = {tag["key"]: tag["value"] for tag in version.get("tags", [])}
        return str(version["version"]), tags.get(DIGEST_TAG, "")

    def _experiment(self, name: str) -> str:
        asked = {"experiment_name": name}
        found = self._ask("GET", "experiments/get-by-name", asked, but={"RESOURCE_DOES_NOT_EXIST"})
        if found is None:
            # Somebody else may create it in this moment.
            self._ask("POST", "experiments/create", {"name": name}, but={"RESOURCE_ALREADY_EXISTS"})
            found = self._ask("GET", "experiments/get-by-name", asked) or {}
        return str(found["experiment"]["experiment_id"])

    def _find(self, experiment: str, key: str) -> str | None:
        search = {
            "experiment_ids": [experiment],
            "filter": f"tags.`{KEY_TAG}` = '{key}'",
            "order_by": ["attributes.start_time ASC"],
            "max_results": 1,
        }
        runs = self._post("runs/search", search).get("runs") or []
        return str(runs[0]["info"]["run_id"]) if runs else None

    def _create(self, application: str, experiment: str, key: str, name: str) -> str:
        tags = {KEY_TAG: key, "nightshift.application": application, "nightshift.code_version": code_version()}
        run = self._post(
            "runs/create",
            {
                "experiment_id": experiment,
                "run_name": name,
                "start_time": int(time.time() * 1000),
                "tags": [{"key": key, "value": value} for key, value in tags.items()],
            },
        )
        return str(run["run"]["info"]["run_id"])

    def _post(self, path: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        return self._ask("POST", path, asked) or {}

    def _ask(
        self, method: str, path: str, asked: Mapping[str, Any], but: Collection[str] = ()
    ) -> dict[str, Any] | None:
        """:param but: MLflow's words for refusals that are an answer, None."""
        reads = method == "GET"
        try:
            answer = self._client.request(
                method, path, params=dict(asked) if reads else None, json=None if reads else dict(asked)
            )
        except httpx.HTTPError as error:
            raise BadEnvironment(
                f"MLflow at {self.uri} does not answer ({type(error).__name__}). Is the server running? What was decided is "
                "kept in storage, and the next try shows it"
            ) from error
        try:
            said = dict(answer.json())
        except ValueError as error:
            raise BadEnvironment(f"what answers at {self.uri} ({answer.status_code}) is no MLflow") from error
        if answer.is_success:
            return said
        if said.get("error_code") in but:
            return None
        if answer.status_code in {401, 403}:
            advice = "check the login of the Airflow connection nightshift_mlflow, and what that user may do"
        else:
            advice = "its own log says more"
        raise BadEnvironment(f"MLflow at {self.uri} answers {answer.status_code}, {said.get('message', '')}: {advice}")
