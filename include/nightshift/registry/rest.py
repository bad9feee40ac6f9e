"""MLflow's REST API for light tasks: importing MLflow's own client takes seconds and 200 MB."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from nightshift.code_version import code_version
from nightshift.errors import BadEnvironment, BadInput
from nightshift.registry.server import address, client_arguments, pages, without_login
from nightshift.registry.versions import DIGEST_TAG, PROMPT_TAG, Registered, prompt_name

KEY_TAG = "nightshift.key"  # the key by which a run is found again
NO_SUCH = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # MLflow's error codes for an unknown model and alias
BUSY = {408, 429}  # temporary refusals
ADVICE = "check the login of the Airflow connection nightshift_mlflow, and what that user may do"
LONGEST_WORDS = 500  # characters of MLflow's messages
PATIENCE_SECONDS = 20.0  # for one answer
AT_ONCE = 100  # tags that MLflow takes in one call
NEWEST = 1_000  # runs that one search returns at most


@dataclass(frozen=True)
class Run:
    """A run of MLflow.

    :param page: the address of its page.
    :param finished: it was written completely.
    """

    id: str
    page: str
    finished: bool
    tags: Mapping[str, str]


class Mlflow:
    """A tracking server.

    :param environment: variables of MLflow's client: `MLFLOW_TRACKING_URI`, a login or a token, and certificates.
    :raises BadEnvironment: it does not answer, or is down or busy (every method).
    :raises BadInput: the settings are invalid, or it refuses the request (every method); a retry cannot help.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.uri = address(environment)
        self._pages = pages(self.uri, environment)
        self._client = httpx.Client(timeout=PATIENCE_SECONDS, **client_arguments(environment))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._client.close()

    def show(self, application: str, key: str, name: str, tags: Mapping[str, str], metrics: Mapping[str, float]) -> str:
        """Write an ended run, or update the one with this `key`; return the address of its page.

        Metrics are written before tags, so that tags about them are true.
        """
        experiment = self._experiment(application)
        known = self._find(experiment, key)
        run = known.id if known else self._create(application, experiment, key, name)
        self.log_metrics(run, metrics)
        pairs = _pairs({"mlflow.runName": name, **tags})
        for start in range(0, len(pairs), AT_ONCE):
            self._post("runs/log-batch", {"run_id": run, "tags": pairs[start : start + AT_ONCE]})
        # Last, since only a finished run counts as written.
        self._post("runs/update", {"run_id": run, "status": "FINISHED", "end_time": _milliseconds()})
        return self._page(experiment, run)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Log numbers of a run with the current time."""
        now = _milliseconds()
        numbers = [{"key": key, "value": float(value), "timestamp": now, "step": 0} for key, value in metrics.items()]
        if numbers:
            self._post("runs/log-batch", {"run_id": run_id, "metrics": numbers})

    def run_of(self, application: str, key: str) -> Run | None:
        """Return the run with this `key`, or None."""
        return self._find(self._experiment(application), key)

    def shown(self, application: str, job: str) -> set[str]:
        """Return the keys of the newest 1,000 finished runs of a job or light task."""
        query = f"tags.`nightshift.job` = '{job}' and attributes.status = 'FINISHED'"
        runs = self._runs(self._experiment(application), query, "attributes.start_time DESC", NEWEST)
        return {run.tags.get(KEY_TAG, "") for run in runs}

    def with_alias(self, application: str, alias: str) -> Registered | None:
        """Return the version with an alias, or None."""
        return self._version("registered-models/alias", {"name": application, "alias": alias})

    def version_of(self, application: str, version: str) -> Registered | None:
        """Return a version by its number, or None."""
        return self._version("model-versions/get", {"name": application, "version": version})

    def with_digest(self, application: str, digest: str) -> Registered | None:
        """Return the first version with this digest, or None."""
        wanted = f"name = '{application}' and tags.`{DIGEST_TAG}` = '{digest}'"
        found = self._ask("GET", "model-versions/search", {"filter": wanted}) or {}
        versions = sorted(found.get("model_versions") or [], key=lambda version: int(version["version"]))
        return self._registered(versions[0]) if versions else None

    def set_alias(self, registered: Registered, alias: str) -> None:
        """Move an alias to a version, and the aliases in the prompt registry to its prompts."""
        self._post("registered-models/alias", {"name": registered.name, "alias": alias, "version": registered.version})
        for tag in (tag for tag in registered.tags if tag.startswith(PROMPT_TAG)):
            # A deleted prompt does not block a release: the version contains its own copy.
            name = prompt_name(registered.name) + tag.removeprefix(PROMPT_TAG)
            asked = {"name": name, "alias": alias, "version": registered.tags[tag]}
            self._ask("POST", "registered-models/alias", asked, but=NO_SUCH)

    def set_tags(self, registered: Registered, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for pair in _pairs(tags):
            self._post("model-versions/set-tag", {"name": registered.name, "version": registered.version, **pair})

    def _version(self, path: str, asked: Mapping[str, str]) -> Registered | None:
        found = self._ask("GET", path, asked, but=NO_SUCH)
        return None if found is None else self._registered(found["model_version"])

    def _registered(self, version: Mapping[str, Any]) -> Registered:
        return Registered.of(self._pages, version["name"], version["version"], _mapping(version.get("tags", [])))

    def _experiment(self, name: str) -> str:
        asked = {"experiment_name": name}
        found = self._ask("GET", "experiments/get-by-name", asked, but={"RESOURCE_DOES_NOT_EXIST"})
        if found is None:
            # Another process may create it at the same time.
            self._ask("POST", "experiments/create", {"name": name}, but={"RESOURCE_ALREADY_EXISTS"})
            found = self._ask("GET", "experiments/get-by-name", asked) or {}
        return str(found["experiment"]["experiment_id"])

    def _find(self, experiment: str, key: str) -> Run | None:
        wanted = f"tags.`{KEY_TAG}` = '{key}'"
        return next(iter(self._runs(experiment, wanted, "attributes.start_time ASC", 1)), None)

    def _runs(self, experiment: str, wanted: str, order: str, most: int) -> list[Run]:
        search = {"experiment_ids": [experiment], "filter": wanted, "order_by": [order], "max_results": most}
        return [
            Run(
                id=run["info"]["run_id"],
                page=self._page(experiment, run["info"]["run_id"]),
                finished=run["info"]["status"] == "FINISHED",
                tags=_mapping(run["data"].get("tags", [])),
            )
            for run in self._post("runs/search", search).get("runs") or []
        ]

    def _page(self, experiment: str, run: str) -> str:
        return f"{self._pages}/#/experiments/{experiment}/runs/{run}"

    def _create(self, application: str, experiment: str, key: str, name: str) -> str:
        tags = {KEY_TAG: key, "nightshift.application": application, "nightshift.code_version": code_version()}
        run = self._post(
            "runs/create",
            {
                "experiment_id": experiment,
                "run_name": name,
                "start_time": _milliseconds(),
                "tags": _pairs(tags),
            },
        )
        return str(run["run"]["info"]["run_id"])

    def _post(self, path: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        return self._ask("POST", path, asked) or {}

    def _ask(
        self, method: str, path: str, asked: Mapping[str, Any], but: Collection[str] = ()
    ) -> dict[str, Any] | None:
        """:param but: MLflow's error codes for which None is returned."""
        reads = method == "GET"
        try:
            answer = self._client.request(
                method, path, params=dict(asked) if reads else None, json=None if reads else dict(asked)
            )
        except httpx.HTTPError as error:
            why = without_login(str(error))[:LONGEST_WORDS]
            raise BadEnvironment(
                f"MLflow at {self.uri} does not answer ({type(error).__name__}: {why}). Is the server running? "
                "Decisions are kept in storage, and the next try logs them"
            ) from error
        said = _object(answer)
        if answer.is_success and said is not None:
            return said
        if said and said.get("error_code") in but:
            return None
        words = without_login(" ".join(str(said.get("message", "")).split()))[:LONGEST_WORDS] if said else ""
        if answer.status_code in BUSY or answer.is_server_error:
            raise BadEnvironment(
                f"MLflow at {self.uri} answers {answer.status_code}, {words or 'without a message'}: see its log"
            )
        if answer.is_success:
            # For example a gateway while its server is replaced.
            raise BadEnvironment(f"the server at {self.uri} ({answer.status_code}) is not MLflow")
        advice = ADVICE if answer.status_code in {401, 403} else "a retry cannot help"
        raise BadInput(
            f"MLflow at {self.uri} refuses {path} ({answer.status_code}, {words or 'without a message'}): {advice}"
        )


def _object(answer: httpx.Response) -> dict[str, Any] | None:
    """The JSON object of an answer; None: the answer is not from MLflow."""
    try:
        said = answer.json()
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _mapping(pairs: Collection[Mapping[str, str]]) -> dict[str, str]:
    return {pair["key"]: pair.get("value", "") for pair in pairs}


def _milliseconds() -> int:
    return int(time.time() * 1000)
