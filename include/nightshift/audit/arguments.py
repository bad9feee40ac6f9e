"""The command `nightshift audit`: its arguments and its output."""

from __future__ import annotations

import argparse
import os
import sys

from nightshift.errors import ExitCode


def add_audit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its own commands to those of `nightshift`."""
    audit = commands.add_parser("audit", help="verify and print the log of who did what").add_subparsers(required=True)
    verify = audit.add_parser("verify", help="say whether the log is what was written: verified, unwitnessed, tampered")
    verify.add_argument("--mlflow", help="where it is anchored (default: $MLFLOW_TRACKING_URI, or the local stack's)")
    verify.add_argument("--anchor", help="URI of the place that the Airflow variable nightshift_audit_anchor names")
    verify.add_argument(
        "--public-key",
        action="append",
        default=[],
        help="only anchors that this key signed count: the key, or a file with keys (`public-key`); may be repeated",
    )
    verify.set_defaults(run=_verify)
    key = audit.add_parser("public-key", help="print what verifies the signatures of this Nightshift")
    key.set_defaults(run=_print_public_key)
    export = audit.add_parser("export", help="print the log as JSON lines")
    export.add_argument("--since", help="from this time on, as 2026-11-28 (UTC)")
    export.add_argument("--until", help="before this time")
    export.add_argument("--application", help="only what was done to this one")
    export.set_defaults(run=_export)
    for command in (verify, export):
        command.add_argument("--storage", help="URI (default: the local stack's, or $NIGHTSHIFT_STORAGE)")


def _verify(options: argparse.Namespace) -> ExitCode:
    from nightshift.audit.command import checked

    lines, code = checked(options.storage, options.mlflow, options.anchor, options.public_key)
    print(*lines, sep="\n")
    return code


def _print_public_key(options: argparse.Namespace) -> None:
    from nightshift.audit.command import own_public_key

    print(own_public_key())


def _export(options: argparse.Namespace) -> None:
    from nightshift.audit.command import exported

    try:
        sys.stdout.writelines(exported(options.storage, options.since, options.until, options.application))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
