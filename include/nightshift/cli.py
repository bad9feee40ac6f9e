"""The `nightshift` command: every job, the checks of application files, and the local stack."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightshift import __version__
from nightshift.audit.arguments import add_audit
from nightshift.erasure.arguments import add_erase
from nightshift.errors import DISK_REFUSES, BadEnvironment, BadInput, ExitCode, JobError, is_outage
from nightshift.prompts.arguments import add_prompts
from nightshift.settings.job_names import JOBS

if TYPE_CHECKING:
    from nightshift.settings.application import Application

log = logging.getLogger("nightshift")


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code (see :class:`nightshift.errors.ExitCode`)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options) or ExitCode.OK)
    except JobError as error:
        print(f"ERROR {error}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.PREEMPTED)


def _parser() -> argparse.ArgumentParser:
    from nightshift.stack.samples import SAMPLES

    parser = argparse.ArgumentParser(
        prog="nightshift",
        description="Monitor and retrain generative-AI applications: the local stack, checks of your files, and every job.",
        epilog=f"Tasks of the DAGs run {', '.join(job for job in JOBS if job != 'train')}, each with --spec and --result.",
    )
    parser.add_argument("--version", action="version", version=f"nightshift {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    for name, text in {
        "up": "start MLflow and Airflow on this machine",
        "run": "start them and run the sample application to its end",
        "down": "stop them; data, models and history stay",
    }.items():
        stack = commands.add_parser(name, help=text)
        about = "quick (default) and full: docs/sample.md; documents: docs/documents-sample.md"
        stack.add_argument("--sample", choices=SAMPLES, default="quick", help=about)
        stack.set_defaults(run=_stack, stack=name)

    init = commands.add_parser("init", help="make a project folder with an application to fill in")
    init.add_argument("folder", type=Path, help="made if it is missing; files in it are kept")
    init.add_argument("--application", default="assistant", metavar="NAME", help="its name (default: assistant)")
    init.set_defaults(run=_init)

    apps = commands.add_parser("apps", help="check application files, print their JSON Schema").add_subparsers(
        required=True
    )
    check = apps.add_parser("check", help="check application files")
    check.add_argument("files", nargs="*", type=Path, help="default: every application file")
    check.set_defaults(run=_check_applications)
    apps.add_parser("schema", help="print the JSON Schema of an application file").set_defaults(run=_print_schema)

    compute = commands.add_parser("compute", help="render compute profiles, print their JSON Schema").add_subparsers(
        required=True
    )
    render = compute.add_parser("render", help="print what a profile becomes on a cluster (YAML)")
    render.add_argument("profile", help="a file in compute/, without .yaml")
    render.add_argument("--job", choices=JOBS, default="train")
    render.add_argument("--dry-run", action="store_true", help="ask the kubeconfig's cluster whether it would take it")
    render.set_defaults(run=_render_compute)
    compute.add_parser("schema", help="print the JSON Schema of a Kubernetes profile").set_defaults(run=_compute_schema)

    model = commands.add_parser("model", help="fetch base models").add_subparsers(required=True)
    fetch = model.add_parser("fetch", help="fetch base models into the cache")
    about = "a built-in model or a Hugging Face id (default: smollm2-135m-instruct)"
    fetch.add_argument("base_models", nargs="*", metavar="base_model", default=["smollm2-135m-instruct"], help=about)
    fetch.set_defaults(run=_fetch_models)

    _add_roles(commands)

    alerts = commands.add_parser("alerts", help="send test alerts").add_subparsers(required=True)
    test = alerts.add_parser("test", help="send one alert of each kind along the routes of an application")
    test.add_argument("application", help="its name")
    test.set_defaults(run=_test_alerts)

    add_audit(commands)
    add_erase(commands)
    add_prompts(commands)

    _add_jobs(commands)
    return parser


def _add_jobs(commands: Any) -> None:
    for job in JOBS:
        planned = job == "train"
        # The epilog of the parser has the others.
        listed: dict[str, Any] = {"help": "train one model, or print a plan"} if planned else {}
        command = commands.add_parser(job, **listed)
        command.add_argument("--spec", required=not planned, help="path or URI of the spec (JSON)")
        command.add_argument("--result", required=not planned, help="path or URI where the result is written (JSON)")
        command.add_argument("--end-with-parent", action="store_true", help="stop when stdin closes")
        command.set_defaults(run=_run_job, job=job)
        if planned:
            command.add_argument(
                "--plan", nargs="?", const="", metavar="APPLICATION",
                help="print what would be trained, with its defaults and memory, and train nothing; without --spec, "
                "from the newest snapshot of APPLICATION",
            )  # fmt: skip
            default = "the local stack's, or $NIGHTSHIFT_STORAGE"
            command.add_argument("--storage", help=f"URI of APPLICATION's storage (default: {default})")
            command.set_defaults(run=_train)

    about = "Start jobs as forks of a process that has imported their libraries."
    forkserver = commands.add_parser("forkserver", description=about)
    forkserver.add_argument("socket", type=Path, help="path of the Unix socket at which Airflow's workers ask for jobs")
    forkserver.set_defaults(run=_serve_forks)


def _add_roles(commands: Any) -> None:
    roles = commands.add_parser("roles", help="print or sync the roles (FAB)").add_subparsers(required=True)
    for name, text in {
        "show": "print which role may do what",
        "mapping": "print FAB's mapping from an identity provider's groups to the roles (Python)",
        "sync": "bring the roles in Airflow's database to what the application files say",
    }.items():
        roles.add_parser(name, help=text).set_defaults(run=_roles, roles=name)
    token = roles.add_parser("token", help="print a token for the connection nightshift_airflow (FAB)")
    token.add_argument("user", help="a user of FAB with the role nightshift_housekeeping alone")
    token.add_argument("--days", type=int, default=365, help="how long it is valid (default: 365)")
    token.set_defaults(run=_token)


def _run_job(options: argparse.Namespace) -> None:
    from nightshift.jobs.contract import job_module, perform, read_spec
    from nightshift.jobs.progress import Progress, end_with_parent, log_to_stderr
    from nightshift.jobs.running_metrics import running_metrics

    _restart_with(getattr(job_module(options.job), "ENVIRONMENT", {}))
    log_to_stderr()
    progress = Progress(options.job)
    progress.start()
    if options.end_with_parent:
        end_with_parent()
    try:
        spec = read_spec(options.job, options.spec)
        progress.metrics = running_metrics(options.job, spec.application, options.result)
        perform(options.job, spec, options.result, progress)
    except JobError:
        raise
    except Exception as error:
        if is_outage(error):
            raise BadEnvironment(
                f"{_words(error)}; what was published before is kept, and the next try goes on"
            ) from error
        log.exception("%s failed", options.job)
        raise JobError(f"{options.job} failed: {type(error).__name__}: {error}") from error
    finally:
        if progress.metrics:
            progress.metrics.end()


def _train(options: argparse.Namespace) -> ExitCode | None:
    if options.plan is None:
        if not (options.spec and options.result):
            raise BadInput("train needs --spec and --result, or --plan APPLICATION to print what would be trained")
        _run_job(options)
        return None
    if not (options.spec or options.plan):
        raise BadInput("--plan needs the name of an application, or --spec")
    from nightshift.jobs.contract import read_spec
    from nightshift.jobs.progress import log_to_stderr
    from nightshift.jobs.train import ENVIRONMENT
    from nightshift.jobs.train_contract import Spec
    from nightshift.stack.place import storage_here

    _restart_with(ENVIRONMENT)
    log_to_stderr()
    from nightshift.jobs.train_plan import plan, spec_of

    spec = (
        read_spec("train", options.spec) if options.spec else spec_of(options.plan, options.storage or storage_here())
    )
    assert isinstance(spec, Spec)  # noqa: S101  (of this job)
    lines, code = plan(spec)
    print(*lines, sep="\n")
    return code


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in DISK_REFUSES:
        return f"{error.filename or 'the disk'}: {error.strerror}"
    return f"storage or a server cannot be reached: {type(error).__name__}: {error}"


def _serve_forks(options: argparse.Namespace) -> None:
    import atexit

    from nightshift.jobs.forkserver import ForkServer
    from nightshift.jobs.progress import log_to_stderr

    log_to_stderr()
    code = main(ForkServer(options.socket).run())  # returns in a fork alone, which is a job
    # The interpreter is not taken apart: what the server froze is not collected, and libraries would call that a leak.
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(code)


def _restart_with(environment: dict[str, str]) -> None:
    """Start this command over with variables that only count when a process starts (allocator, OpenMP)."""
    missing = {key: value for key, value in environment.items() if key not in os.environ}
    if missing:
        os.environ.update(missing)
        os.execv(sys.executable, [sys.executable, "-m", "nightshift", *sys.argv[1:]])  # noqa: S606


def _init(options: argparse.Namespace) -> None:
    from nightshift.new_project import make_project
    from nightshift.settings.project import PROJECT_VARIABLE

    folder = options.folder.expanduser().absolute()
    written, kept = make_project(folder, options.application)
    print(*(f"wrote {path}" for path in written), *(f"kept  {path}, which was there" for path in kept), sep="\n")
    print(
        f"\nFill in {folder / 'apps' / options.application}.yaml, then:\n"
        f"  export {PROJECT_VARIABLE}={shlex.quote(str(folder))}\n"
        "  nightshift apps check\n"
        "  nightshift up"
    )


def _check_applications(options: argparse.Namespace) -> ExitCode:
    from nightshift.settings.applications import (
        BadApplication,
        application_names,
        applications_folder,
        load_compute,
        read_application,
    )

    files = options.files or [applications_folder() / f"{name}.yaml" for name in application_names()]
    if not files:
        raise BadInput(f"there is no application file in {applications_folder()}")
    wrong = 0
    for file in files:
        try:
            application = read_application(file)
            for profile in sorted(set(application.compute.values())):
                load_compute(profile)
        except BadApplication as error:
            wrong += 1
            print(error if str(file) in str(error) else f"{file}: compute: {error}", file=sys.stderr)
        else:
            problem = _missing_models(application)
            wrong += problem is not None
            print(
                f"{file}: {problem or f'{application.name} is well formed'}", file=sys.stderr if problem else sys.stdout
            )
    return ExitCode.BAD_INPUT if wrong else ExitCode.OK


def _missing_models(application: Application) -> str | None:
    if application.ingest.names is None:
        return None
    from nightshift.data.names import missing

    return missing(application.ingest.names)


def _print_schema(_options: argparse.Namespace) -> None:
    from nightshift.settings.applications import application_schema

    print(json.dumps(application_schema(), indent=2))


def _render_compute(options: argparse.Namespace) -> None:
    import yaml

    from nightshift.orchestration.kubernetes.render import dry_run, rendered
    from nightshift.settings.applications import load_compute
    from nightshift.settings.compute import KubernetesCompute

    compute = load_compute(options.profile)
    if not isinstance(compute, KubernetesCompute):
        raise BadInput(
            f"compute profile {compute.name!r} has no manifests: its backend is {compute.backend}, not kubernetes"
        )
    manifests = rendered(compute, options.job)
    print(yaml.safe_dump_all(manifests, sort_keys=False), end="")
    if options.dry_run:
        print(*dry_run(compute, manifests), sep="\n", file=sys.stderr)


def _compute_schema(_options: argparse.Namespace) -> None:
    from nightshift.settings.applications import compute_schema

    print(json.dumps(compute_schema(), indent=2))


def _fetch_models(options: argparse.Namespace) -> None:
    from nightshift.training.base_model import resolve_base_model

    for name in options.base_models:
        print(resolve_base_model(name))


def _roles(options: argparse.Namespace) -> None:
    from nightshift.settings.applications import every_application

    if options.roles == "sync":
        from nightshift.access.sync import sync

        print(*sync(), sep="\n")
    else:
        from nightshift.access.shown import mapping, table

        print({"show": table, "mapping": mapping}[options.roles](every_application()))


def _token(options: argparse.Namespace) -> None:
    from nightshift.access.token import housekeeping_token

    print(housekeeping_token(options.user, timedelta(days=options.days)))


def _test_alerts(options: argparse.Namespace) -> ExitCode:
    from nightshift.orchestration.trying_routes import try_routes

    return ExitCode.OK if try_routes(options.application) else ExitCode.BAD_ENVIRONMENT


def _stack(options: argparse.Namespace) -> int:
    import importlib

    from nightshift.stack.samples import variables_of

    os.environ.update(variables_of(options.sample, os.environ))
    return int(importlib.import_module(f"nightshift.stack.{options.stack}").main())
