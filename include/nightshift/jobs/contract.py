"""The job contract: `nightshift <job> --spec SPEC --result RESULT`, a typed spec in and a typed result out.

A job is a module of this package with `Spec`, `Result` and `run(spec, progress)`. Modules import heavy libraries
inside `run`, because whoever starts a job imports its `Spec` first. The result file names the digest of the spec
that it answers, so that an old result never passes for a new one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from upath import UPath

from nightshift.code_version import code_version
from nightshift.errors import BadInput, JobError
from nightshift.jobs.progress import Progress
from nightshift.settings.application import Application, Model
from nightshift.settings.interval import Interval
from nightshift.storage.erasures import begin
from nightshift.storage.files import replace
from nightshift.storage.manifest import digest_of
from nightshift.storage.partition import partition_of


class JobSpec(Model):
    """What every job needs: whose work it is and where the data lies."""

    application: Application
    storage: str


class IntervalSpec(JobSpec):
    """A job for one interval: its `start` and `end`, or a `day` that stands for one."""

    interval: Interval

    @field_validator("interval", mode="before")
    @classmethod
    def _is_of_the_schedule(cls, value: Any, info: ValidationInfo) -> Any:
        # What a person typed. Any other bounds would make a second partition of the same rows.
        application = info.data.get("application")
        if application and isinstance(value, dict) and set(value) == {"day"}:
            return application.interval_of(value["day"])
        return value


class JobResult(BaseModel):
    """What every job answers with: URIs and numbers, small enough for XCom."""

    model_config = ConfigDict(extra="forbid")


class ResultFile(BaseModel):
    """The result of one attempt, as it lies in storage."""

    job: str
    spec_digest: str
    started: datetime
    ended: datetime
    peak_memory_gb: float
    code_version: str
    result: dict[str, Any]


def job_module(job: str) -> ModuleType:
    """Return the module of a job, with its `Spec`, `Result` and `run`."""
    return importlib.import_module(f"nightshift.jobs.{job}")


def spec_digest(spec: BaseModel) -> str:
    """Return the SHA-256 of a spec, in hex."""
    return digest_of(spec.model_dump(mode="json"))


def read_spec(job: str, location: str) -> JobSpec:
    """Return the spec of a job from the JSON file at a path or URI.

    :raises BadInput: the file is missing, or not a spec of this job.
    """
    model: type[JobSpec] = job_module(job).Spec
    try:
        return model.model_validate_json(UPath(location).read_bytes())
    except FileNotFoundError:
        raise BadInput(f"--spec {location}: there is no such file") from None
    except ValidationError as error:
        raise BadInput(f"--spec {location} is not a spec of {job}: {error}") from error


def perform(job: str, spec: JobSpec, result_location: str, progress: Progress) -> None:
    """Run a job and write its result file, whole or not at all. A node that does not lead its job has no result.

    :raises BadEnvironment: rows of the application are being erased.
    """
    begin(partition_of(spec.storage, spec.application.name))
    started = datetime.now(UTC)
    run: Callable[[JobSpec, Progress], JobResult | None] = job_module(job).run
    result = run(spec, progress)
    if result is None:
        return
    file = ResultFile(
        job=job,
        spec_digest=spec_digest(spec),
        started=started,
        ended=datetime.now(UTC),
        peak_memory_gb=progress.peak_memory_gb(),
        code_version=code_version(),
        result=result.model_dump(mode="json"),
    )
    replace(UPath(result_location), file.model_dump_json(indent=1).encode())


def read_result(job: str, spec: JobSpec, result_location: str) -> ResultFile:
    """Return the result that one attempt left for exactly this spec.

    :raises JobError: there is none, or it answers another spec: the attempt did not succeed, whatever its exit code.
    """
    try:
        file = ResultFile.model_validate_json(UPath(result_location).read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        raise JobError(f"{job} ended without a result at {result_location}: {type(error).__name__}") from error
    if file.spec_digest != spec_digest(spec) or file.job != job:
        raise JobError(f"the result at {result_location} answers another spec; it is not this attempt's")
    return file
