"""The command `nightshift erase`: its arguments and its output."""

from __future__ import annotations

import argparse
import getpass


def add_erase(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of `nightshift`."""
    erase = commands.add_parser("erase", help="erase what one user, or one row, left in storage and MLflow's reports")
    what = erase.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--subject", metavar="VALUE", help="value of the column that `columns.subject` names, as a source has it"
    )
    what.add_argument("--row-id", metavar="VALUE", help="value of the column that `columns.id` names")
    what.add_argument("--digest", metavar="HEX", help="column `digest` of examples: every row with that conversation")
    erase.add_argument("--application", metavar="NAME", help="default: every application of the project")
    erase.add_argument(
        "--dry-run", action="store_true", help="say what would be rewritten and deleted, and write nothing"
    )
    erase.add_argument(
        "--reason", help="kept in the audit log, so name a ticket and no person; needed without --dry-run"
    )
    erase.add_argument("--by", metavar="NAME", help="who erases, for the audit log (default: the user of this machine)")
    erase.add_argument("--storage", help="URI (default: the local stack's, or $NIGHTSHIFT_STORAGE)")
    erase.add_argument("--mlflow", help="where reports are (default: $MLFLOW_TRACKING_URI, or the local stack's)")
    erase.set_defaults(run=_erase)


def _erase(options: argparse.Namespace) -> None:
    from upath import UPath

    from nightshift.errors import BadInput
    from nightshift.settings.applications import application_names
    from nightshift.stack.place import find_mlflow, storage_here
    from nightshift.storage.files import names_in

    if not options.dry_run and not options.reason:
        raise BadInput("give a --reason, or --dry-run to see what would be erased")
    storage, only = options.storage or storage_here(), options.application
    if only and only not in {*application_names(), *names_in(UPath(storage))}:
        raise BadInput(f"--application {only}: no application of this name in the project or in {storage}")
    find_mlflow(options.mlflow)
    from nightshift.erasure.command import Request, erased, found

    request = Request(options.subject, options.row_id, options.digest)
    for name in [only] if only else application_names():
        if options.dry_run:
            lines = found(storage, name, request)
        else:
            lines = erased(storage, name, request, reason=options.reason, by=options.by or getpass.getuser())
        print(*lines, sep="\n", flush=True)
