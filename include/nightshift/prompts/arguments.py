"""The command `nightshift prompts`: its arguments, and what it prints."""

from __future__ import annotations

import argparse
import json


def add_prompts(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its own commands to those of `nightshift`."""
    prompts = commands.add_parser(
        "prompts", help="compare prompts, print one as a file, print the JSON Schema of their files"
    ).add_subparsers(required=True)
    diff = prompts.add_parser("diff", help="print what changed between two prompts, and what that did to the numbers")
    for side, what in {"a": "the earlier one", "b": "the later one"}.items():
        diff.add_argument(
            side,
            metavar=side.upper(),
            help=f"{what}: a version of the application (number or alias), `working` (as its file is now), or a prompt file",
        )
    diff.set_defaults(run=_diff)
    show = prompts.add_parser("show", help="print a version's prompt as a file of the project")
    show.add_argument(
        "version", metavar="VERSION", help="number or alias of a version of the application, or `working`"
    )
    show.set_defaults(run=_show)
    for command in (diff, show):
        command.add_argument("--application", metavar="NAME", help="default: the only one of the project")
        command.add_argument(
            "--mlflow", help="where it is registered (default: $MLFLOW_TRACKING_URI, or the local stack's)"
        )
    prompts.add_parser("schema", help="print the JSON Schema of a prompt file").set_defaults(run=_print_schema)


def _diff(options: argparse.Namespace) -> None:
    from nightshift.prompts.diff import compared

    print(*compared(options.a, options.b, options.application, options.mlflow), sep="\n")


def _show(options: argparse.Namespace) -> None:
    from nightshift.prompts.diff import prompt_of

    print(prompt_of(options.version, options.application, options.mlflow).as_file.as_yaml, end="")


def _print_schema(_options: argparse.Namespace) -> None:
    from nightshift.settings.prompt_file import prompt_schema

    print(json.dumps(prompt_schema(), indent=2))
