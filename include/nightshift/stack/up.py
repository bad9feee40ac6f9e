"""Starts MLflow and Airflow on this machine; a second call finds what runs and starts what died."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import httpx

from nightshift.errors import BadEnvironment
from nightshift.jobs.environment import NO_GPU, allowed
from nightshift.jobs.forkserver import server_environment
from nightshift.settings.applications import readable_applications
from nightshift.settings.project import PROJECT_VARIABLE
from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.credentials import HOUSEKEEPING
from nightshift.stack.environment import (
    airflow_environment,
    api_server_environment,
    mlflow_environment,
    scheduler_environment,
)
from nightshift.stack.installed import migrate_mlflow, packages, packages_and_code
from nightshift.stack.place import AIRFLOW_PORT, INSTALLED, MLFLOW_HOST, MLFLOW_PORT, Place, this_place
from nightshift.stack.preflight import check_disk, check_port, check_storage, make_folders
from nightshift.stack.prepare import is_prepared
from nightshift.stack.processes import Component, start_lock, stop
from nightshift.stack.samples import QUICK, sample_of
from nightshift.stack.stuck import as_text, end_scheduler, still_stuck_tasks
from nightshift.training.built_in import PREPARED

API_SERVER, SCHEDULER = "api-server", "scheduler"
AIRFLOW = {
    API_SERVER: ["api-server"],
    SCHEDULER: ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
MLFLOW = "mlflow"
WATCH, FORKSERVER = "watch", "forkserver"
OURS = (WATCH, FORKSERVER) if NO_GPU else (WATCH,)  # a process that has seen a GPU cannot be forked
READY_SECONDS = 300
MODEL_SECONDS = 900
POLL_SECONDS = 1.0


def main() -> int:
    """Start the stack and say where it is."""
    place = this_place()
    if start(place):
        print(where(place))
    else:
        print(f"already running\n{where(place)}")
    return 0


def components(place: Place) -> dict[str, Component]:
    """Return every long-running part of the stack by name."""
    return {name: Component(name, place.processes, place.logs) for name in (MLFLOW, *AIRFLOW, *OURS)}


def start(place: Place) -> bool:
    """Start what does not run; wait for all of it and for the base model. Return whether something did not run.

    :raises BadEnvironment: something on this machine is in the way; the text says what to do.
    """
    say = Steps()
    make_folders(place)
    with start_lock(place.processes, lambda: say("waiting for whoever starts the stack already")):
        parts = components(place)
        _stop_outdated(place, parts, say)
        down = [name for name, part in parts.items() if not part.leader()]
        changed = bool(down) or not is_prepared(place)
        answers = not changed and _mlflow_is_ready(place) and not _airflow_waits_for(place)
        if not answers:  # what runs on a busy machine may only be slow to answer
            _start_missing(place, parts, down, say)
        if _heal(place, say):
            changed, answers = True, False
            _wait_until_ready(place, parts, say)
        if not answers:
            say("ready")
        return changed


def restart_if_stuck(
    place: Place, api: AirflowApi, say: Callable[[str], None], go_on: Callable[[], bool] = lambda: True
) -> bool:
    """Restart the scheduler if tasks hang in its queue, and say so. Only for the holder of the lock.

    :param go_on: asked before the new scheduler is started.
    :raises BadEnvironment: Airflow does not answer, or refuses.
    """
    scheduler = components(place)[SCHEDULER]
    if not (tasks := still_stuck_tasks(api, scheduler)):
        return False
    say(f"{as_text(tasks)}: restarting the scheduler")
    end_scheduler(scheduler, go_on)
    if go_on():
        _start_part(place, SCHEDULER)
        say("the scheduler was started again")
    return True


def where(place: Place) -> str:
    """Say where a person looks."""
    if sample := sample_of(place):
        down, option = ("nightshift down", "--sample ") if INSTALLED.is_dir() else ("make down", "SAMPLE=")
        down += "" if sample == QUICK else f" {option}{sample}"
    else:
        down = f"{PROJECT_VARIABLE}={shlex.quote(str(place.project))} nightshift down"
    return (
        f"  dashboard    {place.airflow_url}/nightshift/   (Nightshift in Airflow's menu)\n"
        f"  Airflow      {place.airflow_url}   users admin, operator, approver, viewer\n"
        f"  MLflow       {place.mlflow_url}\n"
        f"  passwords    {place.passwords}\n"
        f"  logs         {place.logs}\n"
        f"  storage      {place.storage}\n"
        f"  project      {place.project}\n"
        f"  stop it with `{down}`"
    )


def models_to_prepare() -> list[str]:
    """Return the prepared base models of the project's applications. A job that needs another one fetches it itself."""
    return sorted({app.base_model for app in readable_applications()} & {*PREPARED})


class Steps:
    """Progress lines with the seconds since the first."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started:5.1f} s] {text}", flush=True)


def _stop_outdated(place: Place, parts: dict[str, Component], say: Callable[[str], None]) -> None:
    """End what runs from other code or packages than are there now, before anything is migrated below it."""
    outdated = [name for name, part in parts.items() if part.leader() and part.started_from != _loaded(place, name)]
    if outdated:
        say(f"the code or the packages have changed: restarting {', '.join(outdated)}; tasks that run are tried again")
        # The watch first: it starts others.
        stop([parts[WATCH]])
        stop([parts[name] for name in outdated])


def _loaded(place: Place, name: str) -> str:
    return packages() if name == MLFLOW else packages_and_code(place)


def _start_missing(place: Place, parts: dict[str, Component], down: list[str], say: Callable[[str], None]) -> None:
    _check(place, parts, down)
    models = _fetch_models(place)
    try:
        if MLFLOW in down:
            if migrate_mlflow(place):
                say("migrated MLflow's database; the one before is mlflow.db.before-upgrade")
            say(f"starting MLflow on port {place.mlflow_port}")
            parts[MLFLOW].start(_mlflow_command(place), mlflow_environment(), place.home, _loaded(place, MLFLOW))
        if not is_prepared(place):
            say("preparing Airflow's database, loading airflow_settings.yaml")
            _prepare(place, airflow_environment(place))
        airflow_down = [name for name in (*AIRFLOW, *OURS) if name in down]
        if airflow_down:
            say(f"starting Airflow on port {place.airflow_port} ({', '.join(airflow_down)})")
        for name in airflow_down:
            _start_part(place, name)
        _wait_until_ready(place, parts, say)
        if models:
            if models.poll() is None:
                say("fetching the base model (once)")
            _wait_for_models(models, place)
    finally:
        if models and models.poll() is None:
            models.terminate()


def _start_part(place: Place, name: str) -> None:
    """Start a part of Airflow, or one of our own."""
    if name == FORKSERVER:
        command = [sys.executable, "-m", "nightshift", "forkserver", str(place.forkserver)]
        environment = server_environment(allowed(airflow_environment(place)))
        components(place)[name].start(command, environment, place.checkout, _loaded(place, name))
        return
    module = ["airflow", *AIRFLOW[name]] if name in AIRFLOW else ["nightshift.stack.watch"]
    # With these `this_place()` is this stack in whatever a part starts, in any folder.
    here = {
        "NIGHTSHIFT_HOME": str(place.home),
        "NIGHTSHIFT_STORAGE": place.storage,
        AIRFLOW_PORT: str(place.airflow_port),
        MLFLOW_PORT: str(place.mlflow_port),
        MLFLOW_HOST: place.mlflow_host,
    }
    own = {API_SERVER: api_server_environment, SCHEDULER: scheduler_environment}
    environment = own.get(name, airflow_environment)(place)
    command = [sys.executable, "-m", *module]
    components(place)[name].start(command, {**environment, **here}, place.checkout, _loaded(place, name))


def _heal(place: Place, say: Callable[[str], None]) -> bool:
    """Look once for what the watch would find, should it rest or have been dead; where Airflow refuses, it tells."""
    with suppress(BadEnvironment), AirflowApi(place, HOUSEKEEPING) as api:
        return restart_if_stuck(place, api, say)
    return False


def _check(place: Place, parts: dict[str, Component], down: list[str]) -> None:
    """Look at the machine before anything is started. What a dead part left running would hold its port."""
    stop([parts[name] for name in down])
    check_disk(place.home)
    if MLFLOW in down:
        check_port(place.mlflow_port, MLFLOW_PORT, "MLflow", place.mlflow_host)
    if API_SERVER in down:
        check_port(place.airflow_port, AIRFLOW_PORT, "Airflow")
    check_storage(place.storage)


def _mlflow_command(place: Place) -> list[str]:
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", f"sqlite:///{place.home / 'mlflow.db'}"),
        *("--artifacts-destination", str(place.home / "artifacts")),
        *("--host", place.mlflow_host, "--port", str(place.mlflow_port), "--workers", "1"),
        *(
            "--allowed-hosts",
            f"{place.mlflow_host},{place.mlflow_host}:{place.mlflow_port},localhost:{place.mlflow_port}",
        ),
    ]


def _fetch_models(place: Place) -> subprocess.Popen[bytes] | None:
    """Start fetching the base models that are prepared here, beside the rest, where the project has such."""
    if not (names := models_to_prepare()):
        return None
    with (place.logs / "model.log").open("wb") as log:
        command = [sys.executable, "-m", "nightshift", "model", "fetch", *names]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)


def _wait_for_models(models: subprocess.Popen[bytes], place: Place) -> None:
    with suppress(subprocess.TimeoutExpired):
        models.wait(MODEL_SECONDS)
    if models.returncode != 0:
        tail = "\n".join((place.logs / "model.log").read_text(errors="replace").splitlines()[-5:])
        raise BadEnvironment(
            f"the base model could not be fetched:\n{tail}\nThe stack runs, but its jobs need the model. "
            "Once that is put right: nightshift model fetch"
        )


def _prepare(place: Place, environment: dict[str, str]) -> None:
    log = place.logs / "prepare.log"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "nightshift.stack.prepare"]
        code = subprocess.run(
            command, env=environment, cwd=place.checkout, stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
        raise BadEnvironment(f"Airflow's database could not be prepared:\n{tail}\nThe whole log: {log}")


def _wait_until_ready(place: Place, parts: dict[str, Component], say: Callable[[str], None]) -> None:
    """Wait for MLflow's and Airflow's health, and say each part as it comes up."""
    deadline = time.monotonic() + READY_SECONDS
    waiting = ["MLflow", "Airflow"]
    while waiting:
        for name, part in parts.items():
            if not part.leader():
                raise BadEnvironment(f"{name} ended while it started; the end of {part.log}:\n{part.last_lines()}")
        missing = [] if _mlflow_is_ready(place) else ["MLflow"]
        missing += _airflow_waits_for(place)
        for name in [name for name in waiting if name not in missing]:
            say(f"{name} is ready")
        waiting = missing
        if waiting and time.monotonic() > deadline:
            raise BadEnvironment(
                f"not ready after {READY_SECONDS} s: {', '.join(waiting)}. The logs in {place.logs} say why; "
                "`make down`, then `make up` starts over"
            )
        time.sleep(POLL_SECONDS)


def _mlflow_is_ready(place: Place) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{place.mlflow_url}/health", timeout=2, trust_env=False).is_success
    return False


def _airflow_waits_for(place: Place) -> list[str]:
    """Return the parts of Airflow that are not healthy yet."""
    try:
        answer = httpx.get(f"{place.airflow_url}/api/v2/monitor/health", timeout=5, trust_env=False)
        health = answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return ["Airflow"]
    return [f"Airflow's {name}" for name, part in health.items() if (part or {}).get("status") != "healthy"]
