"""What changed between two prompts of an application, and the gate's metric of the versions that answer with them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from upath import UPath

from nightshift.errors import BadInput
from nightshift.evaluation.estimates import Estimate, metric_of
from nightshift.evaluation.score_file import ScoreFile, read_scores
from nightshift.registry.versions import EVALUATION_DIGEST_TAG, EVALUATION_TAG, Registered
from nightshift.settings.application import Application
from nightshift.settings.applications import every_application, load_application
from nightshift.settings.project import project_folder
from nightshift.settings.prompt import Prompt
from nightshift.settings.prompt_file import read_prompt
from nightshift.stack.place import find_mlflow

WORKING = "working"


@dataclass(frozen=True)
class Side:
    """A prompt, and the version that answers with it where it is one's."""

    label: str
    prompt: Prompt
    version: Registered | None = None


def compared(a: str, b: str, application: str | None, mlflow: str | None) -> list[str]:
    """Return the lines of a comparison: a unified diff of both prompts, then the gate's metric of versions.

    :param a: number or alias of a version of the application, `working`, or the path of a prompt file; `b` likewise.
    :raises BadInput: there is no such application, version or file, or a version's partition is gone.
    :raises BadEnvironment: MLflow cannot be reached.
    """
    app = _application(application)
    before, after = _side(a, app, mlflow), _side(b, app, mlflow)
    lines, others = list(_lines(before.prompt)), list(_lines(after.prompt))
    changed = list(difflib.unified_diff(lines, others, before.label, after.label, n=1_000, lineterm=""))
    return [*(changed or ["the prompts are the same"]), *_numbers(before, after, app.gate.metric)]


def prompt_of(version: str, application: str | None, mlflow: str | None) -> Prompt:
    """Return the prompt that a version answers with.

    :param version: as in :func:`compared`, whose errors are raised.
    """
    return _side(version, _application(application), mlflow).prompt


def _application(name: str | None) -> Application:
    if name:
        return load_application(name)
    applications = every_application()
    if len(applications) > 1:
        raise BadInput(f"name one with --application: there are {', '.join(one.name for one in applications)}")
    return applications[0]


def _side(name: str, app: Application, mlflow: str | None) -> Side:
    if name == WORKING:
        return Side(f"{app.name} as its file is now", app.prompt)
    if name.endswith(".yaml"):
        path = Path(name).absolute() if Path(name).is_file() else project_folder() / name
        try:
            return Side(name, Prompt(file=read_prompt(path.name, path.parent)))
        except ValueError as error:
            raise BadInput(str(error)) from error
    find_mlflow(mlflow)
    from nightshift.registry.models import version_of, with_alias
    from nightshift.storage.application_version import open_version

    version = version_of(app.name, name) if name.isdigit() else with_alias(app.name, name)
    if version is None:
        raise BadInput(
            f"{app.name} has no version {name!r} in the registry; name a number, an alias, `working` or a .yaml file"
        )
    opened = open_version(version.model, version.digest, app)
    return Side(f"{app.name} version {version.version}", opened.parts.prompt, version)


def _lines(prompt: Prompt) -> Iterator[str]:
    """A prompt as lines: its messages, those of a sequence step by step, then its settings."""
    template = {"file": {"template"}}
    for step in prompt.steps:
        yield f"[step {step.name}]"
        yield from _messages(prompt.at(step.name))
    if not prompt.steps:
        yield from _messages(prompt)
    settings = prompt.model_dump(
        mode="json", exclude={"system": True, "user": True, **template, "steps": {"__all__": template}}
    )
    yield "[settings]"
    yield from (f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in settings.items())


def _messages(prompt: Prompt) -> Iterator[str]:
    for message in prompt.written:
        yield f"[{message['role']}]"
        yield from message["content"].split("\n")


def _numbers(a: Side, b: Side, metric: str) -> Iterator[str]:
    """The gate's metric of both versions; of the same examples where one was judged against the other."""

    known = metric_of(metric)

    def shown(number: Estimate, sign: str = "") -> str:
        value, low, high = (known.shown(one, sign) for one in (number.value, number.low, number.high))
        return f"{value} ({low} to {high})"

    scores = [_scores(side) for side in (a, b)]
    for side, found in zip((a, b), scores, strict=True):
        if found and (number := found.comparison.scores["candidate"].get(metric)):
            yield f"{known.title} of {side.label}: {shown(number)}, {found.comparison.examples:,} examples"
        elif side.version:
            yield f"{known.title} of {side.label}: its evaluation is gone"
    first, second = scores
    if first is None or second is None or a.version is None:
        return
    difference = second.comparison.differences.get("champion", {}).get(metric)
    if difference and second.models.get("champion") == a.version.digest:
        yield f"difference on the same {second.comparison.examples:,} examples: {shown(difference, '+')}"
    elif first.snapshot != second.snapshot:
        yield "they were judged on different examples: the numbers show no effect of the prompt alone"


def _scores(side: Side) -> ScoreFile | None:
    """What a version was judged by; None where it is no version, or that is gone."""
    from nightshift.storage.manifest import require_manifest

    if side.version is None:
        return None
    partition = UPath(side.version.tags[EVALUATION_TAG])
    try:
        return read_scores(partition, require_manifest(partition, side.version.tags[EVALUATION_DIGEST_TAG]))
    except BadInput:
        return None
